package hearpack.core.stream

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Playout
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
    bundle: Bundle,
    engine: InferenceEngine,
    source: CaptureSource,
    playback: PlaybackSink?,
    recording: Recording?,
    clock: Clock,
    trace: TraceRecorder,
    private val listener: SessionListener,
    sleeper: Sleeper = Sleeper(Thread::sleep),
) {
    private val running = AtomicBoolean(true)
    internal val wakeUp = WakeUp()
    internal val playout = playback?.let { Playout(bundle.manifest, it.open()) }
    internal val capture = CaptureLoop(source, clock, trace, listener, sleeper, running, wakeUp)
    internal val worker =
        StreamWorker(bundle, engine, capture, playout, recording, clock, trace, listener, running, wakeUp)
    internal val player = if (playback == null || playout == null) null else PlayLoop(playback, playout, clock, trace)
    private val threads = mutableListOf<Thread>()

    /** What capture was last opened with; null before it was. */
    val opened: OpenedCapture? get() = capture.segment?.opened

    /** Samples that may wait between capture and inference, at the model's rate. */
    val ringSamples: Int get() = worker.waitingLimit

    /** Starts the threads. */
    fun start(starter: ThreadStarter) {
        threads += starter.start(ThreadRole.CAPTURE) { guarded(capture::run) }
        threads += starter.start(ThreadRole.INFERENCE) { guarded(worker::run) }
        player?.let { threads += starter.start(ThreadRole.PLAYBACK) { guarded { it.run(running) } } }
    }

    /** Stops and waits for the threads; harmless if called twice. */
    fun stop() {
        running.set(false)
        wakeUp.now()
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
}
