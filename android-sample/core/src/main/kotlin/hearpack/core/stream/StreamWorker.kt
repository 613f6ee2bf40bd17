package hearpack.core.stream

import hearpack.core.audio.Clock
import hearpack.core.audio.Playout
import hearpack.core.bundle.Bundle
import hearpack.core.trace.ComputeMeter
import hearpack.core.trace.GapKind
import hearpack.core.trace.LatencyLedger
import hearpack.core.trace.Part
import hearpack.core.trace.StreamFigures
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val FIGURES_EVERY_NS = 100_000_000L
private const val LAST_WORK_NS = 1_000_000_000L
private const val LONGEST_WAIT_MS = 100L
private const val MAX_PULL = 4096

/**
 * The inference thread: takes what is in the ring, runs the pipeline, hands events and enhanced sound on, and waits until
 * the capture thread has what the next call needs. Every route begins a new stream.
 *
 * @param playout, player null where nothing is played.
 */
internal class StreamWorker(
    private val bundle: Bundle,
    private val engine: InferenceEngine,
    private val capture: CaptureLoop,
    private val playout: Playout?,
    private val player: PlayLoop?,
    private val recording: Recording?,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val running: AtomicBoolean,
    private val wakeUp: WakeUp,
    private val sink: AudioSink? = null,
) {
    private val rate = bundle.manifest.geometry.sampleRateHz
    private val computeMeter = ComputeMeter(clock, bundle.manifest.hopSamples, rate, trace)
    private val block = FloatArray(MAX_PULL)
    private var current: Segment? = null
    private var pipeline: Pipeline? = null
    private var reportedAt = 0L
    private var stoppedAt = -1L
    private var silenced = false
    private var noticed = 0L // of the pipeline's calls without a finite output
    private val earlier = LongArray(3) // of pipelines before: samples without a number, limited ones, such calls
    private var overruns = 0L

    /** Samples at the model's rate that may wait: a buffer, and half a second or four hops; docs/dsp.md. */
    val waitingLimit = bundle.manifest.buffer.samples + maxOf(rate / 2, 4 * bundle.manifest.hopSamples)

    /** Runs until the stream is stopped and what was captured is worked on. */
    fun run() {
        while (true) {
            val pause = step()
            if (pause == DONE) break
            if (pause > 0) wakeUp.await(pause, current?.arrival)
        }
        finish()
    }

    /** Works on what there is; returns the longest time to wait for more, in ms, 0 for none, or [DONE]. */
    fun step(): Long {
        if (!running.get() && isOver()) return DONE
        follow()
        val segment = current ?: return LONGEST_WAIT_MS
        val pipeline = pipeline ?: return LONGEST_WAIT_MS
        val pulled = pull(segment, pipeline)
        val now = clock.nanos()
        if (now - reportedAt >= FIGURES_EVERY_NS) {
            reportedAt = now
            report(segment, pipeline)
        }
        if (pulled > 0) return 0
        wakeUp.want(
            segment.arrival.samples,
            segment.ofDevice(pipeline.missing, rate),
            segment.ofDevice(bundle.manifest.hopSamples, rate),
            segment.rateHz,
        )
        // Should no more come: the screen still wants its figures, a stop its end.
        return LONGEST_WAIT_MS
    }

    /** The stream is over. */
    fun finish() {
        pipeline?.flush()
        playout?.finish()
    }

    /** Whether there is nothing left to work on after a stop; after a second the rest is dropped. */
    private fun isOver(): Boolean {
        val segment = current
        if (segment == null) return capture.first == null
        if (segment.next == null && segment.ended && segment.ring.available == 0) return true
        val now = clock.nanos()
        if (stoppedAt < 0) stoppedAt = now
        if (now - stoppedAt < LAST_WORK_NS) return false
        drop(segment, segment.ring.available)
        return segment.next == null
    }

    /** Goes on to the next route when the present one is heard to its end. */
    private fun follow() {
        val before = current
        val next = if (before == null) capture.first else before.next
        if (next == null || (before != null && before.ring.available > 0)) return
        if (before != null) trace.workerGap(clock.nanos(), GapKind.RESET, 0, next.rateHz)
        pipeline?.let {
            it.flush() // what is on is closed at the route's last sample
            keep(it)
        }
        current = next
        engine.reset(0)
        engine.reset(1)
        pipeline = Pipeline(bundle, engine, next.rateHz, MAX_PULL, ::onAudio, ::onEvent, computeMeter, true, recording)
        computeMeter.arrival = next.arrival
        playout?.restart()
        recording?.reset()
    }

    private fun pull(
        segment: Segment,
        pipeline: Pipeline,
    ): Int {
        dropOldest(segment)
        val meter = segment.arrival.meter
        if (playout != null && !playout.begun && segment.arrival.samples >= segment.rateHz / LEARNED_IN) {
            playout.begin(meter.lumpFrames, segment.rateHz, meter.jitterNanos)
        }
        val n = segment.ring.read(block, 0, block.size)
        if (n == 0) return 0
        pipeline.push(block, 0, n)
        while (noticed < pipeline.nanOutputs) {
            noticed++
            trace.workerGap(clock.nanos(), GapKind.RESET, bundle.manifest.hopSamples, rate)
        }
        return n
    }

    /** A route is over: what its pipeline counted is kept. */
    private fun keep(pipeline: Pipeline) {
        earlier[0] += pipeline.nanSamples
        earlier[1] += pipeline.limitedSamples
        earlier[2] += pipeline.nanOutputs
        noticed = 0
    }

    /** What waits beyond the limit is dropped, oldest first: the thread was kept from running, or cannot keep up. */
    private fun dropOldest(segment: Segment) {
        val beyond = segment.ring.available - segment.ofDevice(waitingLimit, rate)
        if (beyond > 0) drop(segment, beyond)
    }

    private fun drop(
        segment: Segment,
        count: Int,
    ) {
        val dropped = segment.ring.discard(count)
        if (dropped == 0) return
        overruns += 1
        segment.arrival.dropped(dropped)
        trace.workerGap(clock.nanos(), GapKind.RING_OVERRUN, dropped, segment.rateHz)
    }

    private fun onAudio(
        endSample: Long,
        samples: FloatArray,
        count: Int,
    ) {
        markDecision(endSample)
        recording?.addEnhanced(samples, count)
        sink?.onAudio(endSample, samples, count)
        val playout = playout ?: return
        val dropped = playout.write(samples, count, clock.nanos())
        if (dropped > 0) trace.workerGap(clock.nanos(), GapKind.RING_OVERRUN, dropped, playout.rateHz)
    }

    private fun onEvent(event: SoundEvent) {
        val now = clock.nanos()
        val first = capture.first?.beganNs ?: 0
        // A route's samples are counted from its begin; people count from the press of Start.
        val later = ((current?.beganNs ?: first) - first) * rate / 1_000_000_000L
        val told = if (later > 0) event.copy(offsetOfRoute = later) else event
        if (told.offsetSample != null) trace.event(told, now)
        listener.onEvent(told)
    }

    private fun markDecision(endSample: Long) {
        if (trace.coldStart.firstDecisionNs != null || endSample <= bundle.manifest.geometry.delaySamples) return
        val now = clock.nanos()
        trace.cold { it.copy(firstDecisionNs = it.firstDecisionNs ?: now) }
    }

    private fun report(
        segment: Segment,
        pipeline: Pipeline,
    ) {
        if (pipeline.calls > 0) markDecision(Long.MAX_VALUE)
        if (capture.silenced != silenced) {
            silenced = !silenced
            listener.onSilenced(silenced)
        }
        val held = playout?.level
        val g = segment.opened.granted
        val lump = segment.arrival.meter.lumpFrames
        val ledger =
            LatencyLedger.of(
                bundle.manifest,
                g.rateHz,
                if (lump > 0) Part.measured(nanosOf(lump, g.rateHz)) else Part.stated(nanosOf(g.blockFrames, g.rateHz)),
                Part.measured(capture.routeP50Nanos, capture.routeP95Nanos),
                Part.measured(computeMeter.waitP50Nanos, computeMeter.waitP95Nanos),
                Part.measured(computeMeter.p50Nanos, computeMeter.p95Nanos),
                playout?.let { Part.measured(nanosOf(it.level.toInt(), it.rateHz)) },
                playout?.let { outputRoute(it) },
            )
        listener.onFigures(
            StreamFigures(
                pipeline.meter.peak,
                pipeline.meter.rmsDbfs,
                computeMeter.p50Nanos,
                computeMeter.p95Nanos,
                computeMeter.calls,
                computeMeter.misses,
                capture.ringOverruns + overruns,
                capture.captureGaps,
                playout?.underruns ?: 0,
                earlier[0] + pipeline.nanSamples,
                earlier[1] + pipeline.limitedSamples,
                earlier[2] + pipeline.nanOutputs,
                capture.routeP50Nanos,
                held,
                ledger,
            ),
        )
        pipeline.meter.clear()
    }

    private fun nanosOf(
        frames: Int,
        rateHz: Int,
    ): Long = frames * 1_000_000_000L / rateHz

    private fun outputRoute(playout: Playout): Part {
        val player = player
        if (player != null && player.latencyP50Nanos > 0) {
            return Part.measured(player.latencyP50Nanos, player.latencyP95Nanos)
        }
        return Part.stated(nanosOf(maxOf(playout.block, player?.bufferFrames ?: 0), playout.rateHz))
    }

    companion object {
        /** What [step] returns when the stream is over. */
        const val DONE = -1L

        // How the device's audio comes is learned in the first half second; what plays is sized by it.
        private const val LEARNED_IN = 2
    }
}
