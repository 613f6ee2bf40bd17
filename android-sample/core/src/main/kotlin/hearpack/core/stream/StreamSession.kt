package hearpack.core.stream

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackSink
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

/**
 * A live stream: microphone, ring, pipeline, and for an enhancer the speaker; owns their three threads.
 *
 * @param playback null for a classifier, or where monitoring is off.
 * @param recording keeps both sides for A/B playback; null for none.
 */
class StreamSession(
    private val bundle: Bundle,
    engine: InferenceEngine,
    source: CaptureSource,
    private val playback: PlaybackSink?,
    recording: Recording?,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    sleeper: Sleeper = Sleeper(Thread::sleep),
) {
    private val running = AtomicBoolean(true)
    private val capture = CaptureLoop(source, clock, trace, listener, sleeper, running)
    private val worker =
        StreamWorker(bundle, engine, capture, playback?.open(), recording, clock, trace, listener, sleeper, running)
    private val threads = mutableListOf<Thread>()

    /** What capture was last opened with; null before it was. */
    val opened: OpenedCapture? get() = capture.segment?.opened

    /** Samples that may wait between capture and inference, at the model's rate. */
    val ringSamples: Int get() = worker.waitingLimit

    /** Starts the threads. */
    fun start(starter: ThreadStarter) {
        threads += starter.start(ThreadRole.CAPTURE) { guarded(capture::run) }
        threads += starter.start(ThreadRole.INFERENCE) { guarded(worker::run) }
        if (playback != null) threads += starter.start(ThreadRole.PLAYBACK) { guarded { playAll(playback) } }
    }

    /** Stops and waits for the threads; harmless if called twice. */
    fun stop() {
        running.set(false)
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
        if (running.getAndSet(false)) listener.onFailed(failure)
    }

    private fun playAll(sink: PlaybackSink) {
        val block = FloatArray(worker.playBlock)
        val playout = worker.playout
        var underruns = 0L
        try {
            while (running.get()) {
                playout.read(block, block.size, clock.nanos())
                if (playout.underrunCount > underruns) {
                    underruns = playout.underrunCount
                    trace.playoutGap(clock.nanos(), block.size, worker.playoutRate)
                }
                sink.write(block, block.size)
            }
        } finally {
            sink.close()
        }
    }
}
