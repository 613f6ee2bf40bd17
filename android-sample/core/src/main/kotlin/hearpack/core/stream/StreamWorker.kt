package hearpack.core.stream

import hearpack.core.audio.Clock
import hearpack.core.audio.PlayoutRing
import hearpack.core.audio.Resampler
import hearpack.core.audio.ceilDiv
import hearpack.core.audio.deadbandAtDevice
import hearpack.core.bundle.Bundle
import hearpack.core.trace.ComputeMeter
import hearpack.core.trace.GapKind
import hearpack.core.trace.LatencyLedger
import hearpack.core.trace.StreamFigures
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val FIGURES_EVERY_NS = 100_000_000L

/**
 * The inference thread: takes what is in the ring, runs the pipeline, hands events and enhanced sound on, and sleeps
 * for a part of the time that the next samples take to come. Every route begins a new stream.
 *
 * @param speakerRate the speaker's rate, or null where nothing is played.
 */
internal class StreamWorker(
    private val bundle: Bundle,
    private val engine: InferenceEngine,
    private val capture: CaptureLoop,
    speakerRate: Int?,
    private val recording: Recording?,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val sleeper: Sleeper,
    private val running: AtomicBoolean,
) {
    private val rate = bundle.manifest.geometry.sampleRateHz
    private val computeMeter = ComputeMeter(clock, bundle.manifest.hopSamples, rate, trace)
    private val playing = speakerRate != null
    val playoutRate = speakerRate ?: rate

    /** Frames of the speaker's blocks. */
    val playBlock = playoutRate / 100
    private val back = Resampler(rate, playoutRate)
    private val backWork = FloatArray(maxOf(back.mostOutputs(bundle.manifest.buffer.samples), back.delayOutSamples + 4))
    private val hopAtSpeaker =
        ceilDiv(
            bundle.manifest.buffer.samples
                .toLong() * playoutRate,
            rate.toLong(),
        ).toInt()
    val playout =
        PlayoutRing(
            maxOf(2 * playoutRate, 4 * prefill()),
            prefill(),
            deadbandAtDevice(hopAtSpeaker, playBlock, playoutRate),
            hopAtSpeaker,
            playoutRate,
        )
    private var silenced = false
    private var noticed = 0L // of the pipeline's calls without a finite output
    private val earlier = LongArray(3) // of pipelines before: samples without a number, limited ones, such calls
    private var overruns = 0L

    /** Samples at the model's rate that may wait: a buffer, and half a second or four hops; docs/dsp.md. */
    val waitingLimit = bundle.manifest.buffer.samples + maxOf(rate / 2, 4 * bundle.manifest.hopSamples)

    private fun prefill(): Int {
        val wanted = bundle.manifest.prefillSamples
        if (wanted != null) return ceilDiv(wanted.toLong() * playoutRate, rate.toLong()).toInt()
        return hopAtSpeaker + playBlock
    }

    /** Runs until the stream is stopped and what was captured is worked on. */
    fun run() {
        var current: Segment? = null
        var pipeline: Pipeline? = null
        val block = FloatArray(MAX_PULL)
        var reportedAt = 0L
        while (running.get() || isLeft(current)) {
            val next = if (current == null) capture.first else current.next
            if (next != null && (current == null || current.ring.available == 0)) {
                if (current != null) trace.workerGap(clock.nanos(), GapKind.RESET, 0, next.rateHz)
                pipeline?.let(::keep)
                current = next
                pipeline = pipelineFor(next)
                computeMeter.arrival = next.arrival
                recording?.reset()
            }
            if (current == null || pipeline == null) {
                sleeper.sleep(2)
                continue
            }
            val pulled = pull(current, pipeline, block)
            val now = clock.nanos()
            if (now - reportedAt >= FIGURES_EVERY_NS) {
                reportedAt = now
                report(current, pipeline)
            }
            if (pulled == 0) sleeper.sleep(pause(current, pipeline))
        }
        pipeline?.flush()
        playout.finish()
    }

    /** Whether samples were captured that the inference thread has not seen: they are worked on before a stop. */
    private fun isLeft(current: Segment?): Boolean {
        if (current == null) return capture.first != null
        return current.next != null || !current.ended || current.ring.available > 0
    }

    private fun pull(
        segment: Segment,
        pipeline: Pipeline,
        block: FloatArray,
    ): Int {
        dropOldest(segment)
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
        val limit = ceilDiv(waitingLimit.toLong() * segment.rateHz, rate.toLong()).toInt()
        val beyond = segment.ring.available - limit
        if (beyond <= 0) return
        val dropped = segment.ring.discard(beyond)
        overruns += 1
        segment.arrival.dropped(dropped)
        trace.workerGap(clock.nanos(), GapKind.RING_OVERRUN, dropped, segment.rateHz)
    }

    /** Half the time in which the missing samples come: bounded wake-ups, and no signal from the capture thread. */
    private fun pause(
        segment: Segment,
        pipeline: Pipeline,
    ): Long {
        if (segment.ended) return 2
        return (pipeline.missing * 500L / rate).coerceIn(1, 50)
    }

    private fun pipelineFor(segment: Segment): Pipeline {
        engine.reset(0)
        engine.reset(1)
        back.reset()
        return Pipeline(bundle, engine, segment.rateHz, MAX_PULL, ::onAudio, ::onEvent, computeMeter, true, recording)
    }

    private fun onAudio(
        endSample: Long,
        samples: FloatArray,
        count: Int,
    ) {
        markDecision(endSample)
        recording?.addEnhanced(samples, count)
        if (!playing) return
        val n = back.process(samples, 0, count, backWork)
        val dropped = playout.write(backWork, 0, n, clock.nanos())
        if (dropped > 0) trace.workerGap(clock.nanos(), GapKind.RING_OVERRUN, dropped, playoutRate)
    }

    private fun onEvent(event: SoundEvent) {
        val now = clock.nanos()
        if (event.offsetSample != null) trace.event(event, now)
        listener.onEvent(event)
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
        val held = if (playing) playout.level else null
        val p50 = computeMeter.p50Nanos
        val wait = computeMeter.waitP50Nanos
        val g = segment.opened.granted
        val ledger =
            LatencyLedger.of(
                bundle.manifest,
                g.rateHz,
                g.blockFrames,
                capture.hardwareNanos,
                wait,
                p50,
                held,
                playBlock,
            )
        listener.onFigures(
            StreamFigures(
                pipeline.meter.peak,
                pipeline.meter.rmsDbfs,
                p50,
                computeMeter.p95Nanos,
                computeMeter.calls,
                computeMeter.misses,
                capture.ringOverruns + overruns,
                capture.captureGaps,
                playout.underrunCount,
                earlier[0] + pipeline.nanSamples,
                earlier[1] + pipeline.limitedSamples,
                earlier[2] + pipeline.nanOutputs,
                capture.hardwareNanos,
                held,
                ledger,
            ),
        )
        pipeline.meter.clear()
    }

    private companion object {
        const val MAX_PULL = 4096
    }
}
