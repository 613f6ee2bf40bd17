package hearpack.core.stream

import hearpack.core.audio.Clock
import hearpack.core.audio.PlaybackSink
import hearpack.core.audio.Playout
import hearpack.core.trace.TraceRecorder
import java.util.concurrent.atomic.AtomicBoolean

/** The playback thread: takes a block from the playout and gives it to the speaker, which waits until it has room. */
internal class PlayLoop(
    private val sink: PlaybackSink,
    private val playout: Playout,
    private val clock: Clock,
    private val trace: TraceRecorder,
) {
    private val block = FloatArray(playout.block)
    private var underruns = 0L

    /** Runs until the stream is stopped. */
    fun run(running: AtomicBoolean) {
        try {
            while (running.get()) step()
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
        sink.write(block, block.size)
    }
}
