package hearpack.core.stream

import hearpack.core.audio.Clock
import hearpack.core.audio.PlaybackException
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Playout
import hearpack.core.trace.SortedWindow
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

private const val OPEN_TRIES = 8
private const val OPEN_WAIT_MS = 250L

/**
 * The playback thread: takes a block from the playout and gives it to the speaker, which waits until it has room. A speaker
 * that dies is opened again; if that cannot be, the stream goes on unheard.
 */
internal class PlayLoop(
    private val sink: PlaybackSink,
    private val playout: Playout,
    private val clock: Clock,
    private val trace: TraceRecorder,
    private val listener: SessionListener,
    private val sleeper: Sleeper,
    private val running: AtomicBoolean,
) {
    private val block = FloatArray(playout.block)
    private val latencies = SortedWindow(512)
    private var underruns = 0L
    private var dead = false

    /** From the playout to the air, measured; 0 where the system does not say. */
    @Volatile var latencyP50Nanos = 0L
        private set

    @Volatile var latencyP95Nanos = 0L
        private set

    /** Frames the system's buffer holds. */
    val bufferFrames: Int get() = sink.bufferFrames

    /** How often the system's buffer ran dry. */
    val systemUnderruns: Int get() = sink.underruns

    /** Runs until the stream is stopped, or the speaker is gone for good. */
    fun run() {
        try {
            while (running.get() && !dead) step()
        } finally {
            sink.close()
        }
    }

    /** Plays a block. */
    fun step() {
        playout.read(block, block.size, clock.nanos())
        if (playout.underruns > underruns) {
            underruns = playout.underruns
            trace.playoutGap(clock.nanos(), block.size, playout.rateHz)
        }
        if (!sink.write(block, block.size)) {
            reopen()
            return
        }
        val latency = sink.latencyNanos
        if (latency < 0) return
        latencies.add(latency)
        latencyP50Nanos = latencies.percentile(50)
        latencyP95Nanos = latencies.percentile(95)
    }

    private fun reopen() {
        var why = "the output died"
        var tries = 0
        while (tries++ < OPEN_TRIES && running.get()) {
            sink.close()
            sleeper.sleep(OPEN_WAIT_MS)
            try {
                val rate = sink.open()
                if (rate == playout.rateHz) return
                why = "the output changed from ${playout.rateHz} to $rate Hz; stop and start again"
            } catch (e: PlaybackException) {
                why = e.message ?: why
            }
        }
        if (!running.get()) return
        dead = true
        playout.mute()
        listener.onSpeakerFailed(why)
    }
}
