package hearpack.core.stream

import hearpack.core.audio.CaptureException
import hearpack.core.audio.CaptureSource
import hearpack.core.audio.Clock
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.PlaybackException
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Playout
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.StreamException
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val LONGEST_STOP_MS = 4_000L

/**
 * A live stream: microphone, ring, pipeline, and for an enhancer the speaker; owns their three threads.
 *
 * @param playback null for a classifier, or where monitoring is off.
 * @param recording keeps both sides for A/B playback; null for none.
 * @param onAudio gets an enhancer's sound at the model's rate, on the inference thread; null for nobody.
 * @throws PlaybackException the speaker cannot be opened.
 */
class StreamSession(
    bundle: Bundle,
    engine: InferenceEngine,
    private val source: CaptureSource,
    playback: PlaybackSink?,
    recording: Recording?,
    clock: Clock,
    trace: TraceRecorder,
    private val listener: SessionListener,
    onAudio: AudioSink? = null,
    sleeper: Sleeper = Sleeper(Thread::sleep),
) {
    private val running = AtomicBoolean(true)
    internal val wakeUp = WakeUp()
    internal val playout = playback?.let { Playout(bundle.manifest, it.open()) }
    internal val capture = CaptureLoop(source, clock, trace, listener, sleeper, running, wakeUp)
    internal val player =
        if (playback == null || playout == null) {
            null
        } else {
            PlayLoop(playback, playout, clock, trace, listener, sleeper, running)
        }
    internal val worker =
        StreamWorker(
            bundle,
            engine,
            capture,
            playout,
            player,
            recording,
            clock,
            trace,
            listener,
            running,
            wakeUp,
            onAudio,
        )
    private val threads = mutableListOf<Thread>()

    /** What capture was last opened with; null before it was. */
    val opened: OpenedCapture? get() = capture.segment?.opened

    /** Samples that may wait between capture and inference, at the model's rate. */
    val ringSamples: Int get() = worker.waitingLimit

    /** What there is to say of how sound came and went, for the trace; exact when the threads rest. */
    val devices: DeviceFigures
        get() =
            DeviceFigures(
                capture.segment
                    ?.arrival
                    ?.meter
                    ?.lumpFrames ?: 0,
                playout?.rateHz,
                playout?.block ?: 0,
                player?.bufferFrames ?: 0,
                player?.systemUnderruns ?: 0,
                player?.latencyP50Nanos ?: 0,
                player?.latencyP95Nanos ?: 0,
            )

    /** Starts the threads. */
    fun start(starter: ThreadStarter) {
        threads += starter.start(ThreadRole.CAPTURE) { guarded(capture::run) }
        threads += starter.start(ThreadRole.INFERENCE) { guarded(worker::run) }
        player?.let { threads += starter.start(ThreadRole.PLAYBACK) { guarded(it::run) } }
    }

    /**
     * Stops and waits for the threads; harmless if called twice. What waits for the model is worked on for a second: not
     * for a thread that draws.
     *
     * @param longestMs how long it may take.
     * @return false where a thread does not end: the device's read or write never returns.
     */
    fun stop(longestMs: Long = LONGEST_STOP_MS): Boolean {
        running.set(false)
        wakeUp.now()
        source.interrupt()
        val end = System.nanoTime() + longestMs * 1_000_000
        val others = threads.filter { it != Thread.currentThread() }
        others.forEach { it.join(maxOf(1, (end - System.nanoTime()) / 1_000_000)) }
        return others.none { it.isAlive }
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
        } catch (e: RuntimeException) {
            // a rate of the device that no resampler takes, or what a maker's audio driver throws
            fail(Failure(null, e.message ?: e.javaClass.simpleName))
        }
    }

    private fun fail(failure: Failure) {
        if (running.getAndSet(false)) listener.onFailed(failure)
        wakeUp.now()
    }
}

/**
 * How sound came and went.
 *
 * @property lumpFrames frames of the microphone that came at once; 0: none came.
 * @property playRateHz null where nothing was played.
 * @property latencyP50Nanos from the playout to the air, measured; 0 where the system did not say.
 */
data class DeviceFigures(
    val lumpFrames: Int,
    val playRateHz: Int?,
    val playBlockFrames: Int,
    val playBufferFrames: Int,
    val playUnderruns: Int,
    val latencyP50Nanos: Long,
    val latencyP95Nanos: Long,
)
