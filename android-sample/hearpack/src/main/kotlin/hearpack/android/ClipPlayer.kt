package hearpack.android

import android.content.Context
import android.media.AudioTrack
import hearpack.core.audio.PlaybackException

private const val LONGEST_TAIL_MS = 2_000

/**
 * Plays a clip once, to its last sample; a new clip ends the one before. A call, another app's sound or a headset that is
 * pulled out end it too.
 *
 * @param onFailed told what the system said where a clip cannot be played; on the clip's thread.
 */
class ClipPlayer(
    private val context: Context,
    private val routes: Routes,
    private val onFailed: (String) -> Unit,
) {
    @Volatile private var playing: Thread? = null

    fun play(
        samples: FloatArray,
        rateHz: Int,
    ) {
        stop()
        val thread = Thread { run(samples, rateHz) }
        playing = thread
        thread.start()
    }

    private fun run(
        samples: FloatArray,
        rateHz: Int,
    ) {
        val focus = AudioFocus(context, routes, { if (!it) stop() }, ::stop)
        var track: AudioTrack? = null
        try {
            track = track(rateHz, lowLatency = false)
            focus.open()
            track.play()
            if (write(track, samples, rateHz)) playOut(track, samples.size)
        } catch (e: PlaybackException) {
            onFailed(e.message ?: "no message")
        } catch (e: IllegalStateException) {
            onFailed(e.message ?: "no message")
        } finally {
            focus.close()
            track?.release()
        }
    }

    private fun isOn() = playing == Thread.currentThread()

    /** Whether all was taken. */
    private fun write(
        track: AudioTrack,
        samples: FloatArray,
        rateHz: Int,
    ): Boolean {
        var at = 0
        while (at < samples.size && isOn()) {
            val n = track.write(samples, at, minOf(rateHz / 10, samples.size - at), AudioTrack.WRITE_BLOCKING)
            if (n <= 0) return false
            at += n
        }
        return at == samples.size
    }

    /** What was written is not heard yet: a release would cut it off. */
    private fun playOut(
        track: AudioTrack,
        frames: Int,
    ) {
        track.stop()
        var waited = 0
        while (track.playbackHeadPosition < frames && waited < LONGEST_TAIL_MS && isOn()) {
            Thread.sleep(20)
            waited += 20
        }
    }

    fun stop() {
        playing = null
    }
}
