package hearpack.core

/** What a running stream tells the screen; called on the stream's own threads. */
interface SessionListener {
    fun onOpened(opened: OpenedCapture)

    fun onEvent(event: SoundEvent)

    /** About ten times a second. */
    fun onFigures(figures: Figures)

    /** The microphone was silenced by the system, or is ours again. */
    fun onSilenced(silenced: Boolean)

    /** The stream ended by itself. */
    fun onFailed(failure: Failure)
}

/** Why a stream ended. */
data class Failure(
    val fault: CaptureFault?,
    val message: String,
)

/** What the screens show of a running stream. */
data class Figures(
    val peak: Float,
    val rmsDbfs: Double,
    val p50Nanos: Long,
    val p95Nanos: Long,
    val calls: Long,
    val misses: Long,
    val ringOverruns: Long,
    val captureGaps: Long,
    val playoutUnderruns: Long,
    val hardwareNanos: Long,
    val playoutSamples: Long?,
    val ledger: LatencyLedger,
)

/** Makes the stream's threads; the app gives them their priorities. */
fun interface ThreadStarter {
    fun start(
        role: ThreadRole,
        body: Runnable,
    ): Thread
}

/** Waits for some milliseconds. */
fun interface Sleeper {
    fun sleep(millis: Long)
}

enum class ThreadRole { CAPTURE, INFERENCE, PLAYBACK }

/** The samples of one route: its rate, its ring, and its loss. A change of route makes a new one. */
internal class Segment(
    val opened: OpenedCapture,
    val ring: FloatRing,
) {
    val rateHz: Int get() = opened.granted.rateHz
    val arrival = Arrival(rateHz)

    /** Set by the capture thread when nothing more comes. */
    @Volatile var ended = false

    /** The stretch that follows, once it was opened. */
    @Volatile var next: Segment? = null
}

private const val RING_SECONDS = 2
private const val REOPEN_TRIES = 20
private const val REOPEN_WAIT_MS = 250L
private const val FIGURES_EVERY_NS = 100_000_000L

/**
 * A live stream: microphone, ring, pipeline, and for an enhancer the speaker.
 *
 * Capture thread: reads a block, stamps it, puts it into the ring; no lock and no allocation while a route lasts.
 * Inference thread: takes what is in the ring, sleeps for the time that the next samples take to come. Playback
 * thread: takes blocks from the playout ring. A change of route opens the microphone again and begins a new stream.
 *
 * @param playback null for a classifier, or where monitoring is off.
 * @param recording keeps both sides for A/B playback; null for none.
 */
class StreamSession(
    private val bundle: Bundle,
    private val engine: InferenceEngine,
    private val source: CaptureSource,
    private val playback: PlaybackSink?,
    private val recording: Recording?,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val sleeper: Sleeper = Sleeper(Thread::sleep),
) {
    private val rate = bundle.manifest.geometry.sampleRateHz
    private val computeMeter = ComputeMeter(clock, bundle.manifest.hopSamples, rate, trace)
    private val playoutRate = playback?.open() ?: rate
    private val playBlock = playoutRate / 100
    private val back = Resampler(rate, playoutRate)
    private val backWork = FloatArray(maxOf(back.mostOutputs(bundle.manifest.buffer.samples), back.delayOutSamples + 4))
    internal val playout =
        PlayoutRing(playoutRate, prefill(), maxOf(playBlock, back.mostOutputs(bundle.manifest.buffer.samples)) / 2)
    private val threads = mutableListOf<Thread>()

    @Volatile private var running = true

    /** The first stretch of one rate; each knows the next, so that none goes by unseen. */
    @Volatile private var first: Segment? = null

    /** The last one opened. */
    @Volatile private var segment: Segment? = null

    @Volatile private var hardwareNanos = 0L

    @Volatile private var ringOverruns = 0L

    @Volatile private var captureGaps = 0L
    private var silenced = false

    /** What capture was last opened with; null before it was. */
    val opened: OpenedCapture? get() = segment?.opened

    /** Capacity of the ring between capture and inference, at the model's rate. */
    val ringSamples: Int
        get() = segment?.let { (it.ring.capacity.toLong() * rate / it.rateHz).toInt() } ?: (RING_SECONDS * rate)

    private fun prefill(): Int {
        val wanted = bundle.manifest.prefillSamples
        if (wanted != null) return ceilDiv(wanted.toLong() * playoutRate, rate.toLong()).toInt()
        return ceilDiv(
            bundle.manifest.buffer.samples
                .toLong() * playoutRate,
            rate.toLong(),
        ).toInt() + playBlock
    }

    /** Starts the threads. */
    fun start(starter: ThreadStarter) {
        threads += starter.start(ThreadRole.CAPTURE) { guarded(::captureAll) }
        threads += starter.start(ThreadRole.INFERENCE) { guarded(::inferAll) }
        if (playback != null) threads += starter.start(ThreadRole.PLAYBACK) { guarded { playAll(playback) } }
    }

    /** Stops and waits for the threads; harmless if called twice. */
    fun stop() {
        running = false
        threads.forEach { if (it != Thread.currentThread()) it.join() }
    }

    private fun guarded(body: () -> Unit) {
        try {
            body()
        } catch (e: CaptureException) {
            fail(Failure(e.fault, e.message ?: "no message"))
        } catch (e: EngineException) {
            fail(Failure(null, e.message ?: "no message"))
        } catch (e: StreamException) {
            fail(Failure(null, e.message ?: "no message"))
        } catch (e: IllegalArgumentException) {
            // a rate of the device that no resampler takes
            fail(Failure(null, e.message ?: "no message"))
        }
    }

    private fun fail(failure: Failure) {
        if (!running) return
        running = false
        listener.onFailed(failure)
    }

    private fun captureAll() {
        var reason: String? = null
        try {
            while (running) {
                val opened = if (reason == null) source.open() else reopen()
                val ring = FloatRing(RING_SECONDS * opened.granted.rateHz)
                val now = clock.nanos()
                val g = opened.granted
                trace.route(RouteChange(now, opened.port, opened.output, g.rateHz, g.channels, reason))
                trace.cold { it.copy(captureBeginNs = it.captureBeginNs ?: now) }
                val before = segment
                val next = Segment(opened, ring)
                segment = next
                if (before == null) first = next else before.next = next
                before?.ended = true
                listener.onOpened(opened)
                val code = capture(next)
                if (code == CaptureSource.FAILED) {
                    throw CaptureException(CaptureFault.UNAVAILABLE, "the microphone stopped delivering")
                }
                source.close()
                reason = "route changed"
            }
        } finally {
            segment?.ended = true
            source.close()
        }
    }

    /** A new device may need a moment to appear. */
    private fun reopen(): OpenedCapture {
        var tries = 0
        while (true) {
            try {
                return source.open()
            } catch (e: CaptureException) {
                if (e.fault == CaptureFault.NO_PERMISSION || ++tries == REOPEN_TRIES || !running) throw e
                sleeper.sleep(REOPEN_WAIT_MS)
            }
        }
    }

    /** Reads until the route changes, capture fails or the stream is stopped; returns why. */
    private fun capture(segment: Segment): Int {
        val granted = segment.opened.granted
        val block = FloatArray(maxOf(1, granted.blockFrames))
        val stamp = LongArray(2)
        val gaps = GapDetector(granted.rateHz, maxOf(granted.blockFrames * 4, granted.rateHz / 20))
        var read = 0L
        while (running) {
            val n = source.read(block)
            if (n < 0) return n
            val now = clock.nanos()
            val known = source.timestamp(stamp)
            // The block's first frame, carried on from the hardware's last known frame.
            val hardware = if (known) stamp[1] + (read - stamp[0]) * 1_000_000_000L / granted.rateHz else -1L
            if (known && n > 0) hardwareNanos = maxOf(0L, now - hardware - n * 1_000_000_000L / granted.rateHz)
            val missing = gaps.read(now, n)
            if (missing > 0) {
                captureGaps += 1
                trace.captureGap(now, GapKind.CAPTURE_GAP, missing, granted.rateHz)
            }
            val taken = segment.ring.write(block, 0, n)
            segment.arrival.came(now, taken)
            if (taken < n) {
                ringOverruns += 1
                trace.captureGap(now, GapKind.RING_OVERRUN, n - taken, granted.rateHz)
            }
            trace.callback(now, clock.nanos(), n, granted.rateHz, hardware, if (known) read else -1L)
            read += n
        }
        return 0
    }

    private fun inferAll() {
        var current: Segment? = null
        var pipeline: Pipeline? = null
        val block = FloatArray(MAX_PULL)
        var toldAt = 0L
        while (running || isLeft(current)) {
            val next = if (current == null) first else current.next
            if (next != null && (current == null || current.ring.available == 0)) {
                if (current != null) trace.workerGap(clock.nanos(), GapKind.RESET, 0, next.rateHz)
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
            if (now - toldAt >= FIGURES_EVERY_NS) {
                toldAt = now
                tell(current, pipeline)
            }
            if (pulled == 0) sleeper.sleep(pause(current, pipeline))
        }
        pipeline?.flush()
        playout.finish()
    }

    /** Whether samples were captured that the inference thread has not seen: they are worked on before a stop. */
    private fun isLeft(current: Segment?): Boolean {
        if (current == null) return first != null
        return current.next != null || !current.ended || current.ring.available > 0
    }

    private fun pull(
        segment: Segment,
        pipeline: Pipeline,
        block: FloatArray,
    ): Int {
        val n = segment.ring.read(block, 0, block.size)
        if (n == 0) return 0
        pipeline.push(block, 0, n)
        return n
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
        return Pipeline(bundle, engine, segment.rateHz, MAX_PULL, ::hear, ::happen, computeMeter, true, recording)
    }

    private fun hear(
        endSample: Long,
        samples: FloatArray,
        count: Int,
    ) {
        decided(endSample)
        recording?.addEnhanced(samples, count)
        if (playback == null) return
        val n = back.process(samples, 0, count, backWork)
        val dropped = playout.write(backWork, 0, n)
        if (dropped > 0) trace.workerGap(clock.nanos(), GapKind.RING_OVERRUN, dropped, playoutRate)
    }

    private fun happen(event: SoundEvent) {
        val now = clock.nanos()
        if (event.offsetSample != null) trace.event(event, now)
        listener.onEvent(event)
    }

    private fun decided(endSample: Long) {
        if (trace.coldStart.firstDecisionNs != null || endSample <= bundle.manifest.geometry.delaySamples) return
        val now = clock.nanos()
        trace.cold { it.copy(firstDecisionNs = it.firstDecisionNs ?: now) }
    }

    private fun tell(
        segment: Segment,
        pipeline: Pipeline,
    ) {
        if (pipeline.calls > 0) decided(Long.MAX_VALUE)
        if (source.silenced != silenced) {
            silenced = !silenced
            listener.onSilenced(silenced)
        }
        val held = if (playback != null) playout.level else null
        val p50 = computeMeter.p50Nanos
        val wait = computeMeter.waitP50Nanos
        val g = segment.opened.granted
        val ledger =
            LatencyLedger.of(bundle.manifest, g.rateHz, g.blockFrames, hardwareNanos, wait, p50, held, playBlock)
        listener.onFigures(
            Figures(
                pipeline.meter.peak,
                pipeline.meter.rmsDbfs,
                p50,
                computeMeter.p95Nanos,
                computeMeter.calls,
                computeMeter.misses,
                ringOverruns,
                captureGaps,
                playout.underrunCount,
                hardwareNanos,
                held,
                ledger,
            ),
        )
        pipeline.meter.clear()
    }

    private fun playAll(sink: PlaybackSink) {
        val block = FloatArray(playBlock)
        var underruns = 0L
        try {
            while (running) {
                playout.read(block, block.size)
                if (playout.underrunCount > underruns) {
                    underruns = playout.underrunCount
                    trace.playoutGap(clock.nanos(), block.size, playoutRate)
                }
                sink.write(block, block.size)
            }
        } finally {
            sink.close()
        }
    }

    private companion object {
        const val MAX_PULL = 4096
    }
}
