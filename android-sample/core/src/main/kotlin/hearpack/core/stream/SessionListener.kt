package hearpack.core.stream

import hearpack.core.audio.CaptureFault
import hearpack.core.audio.OpenedCapture
import hearpack.core.trace.StreamFigures

/** What a running stream reports to the screen; called on the stream's own threads. */
interface SessionListener {
    fun onOpened(opened: OpenedCapture)

    fun onEvent(event: SoundEvent)

    /** About ten times a second. */
    fun onFigures(figures: StreamFigures)

    /** The microphone was silenced by the system, or is ours again. */
    fun onSilenced(silenced: Boolean)

    /** Nothing is played any more: the speaker died and could not be opened again. The stream goes on. */
    fun onSpeakerFailed(message: String) = Unit

    /** The stream ended by itself. */
    fun onFailed(failure: Failure)
}

/** Why a stream ended. */
data class Failure(
    val fault: CaptureFault?,
    val message: String,
)
