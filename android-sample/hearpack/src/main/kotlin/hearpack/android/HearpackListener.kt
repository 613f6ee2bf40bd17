package hearpack.android

import hearpack.core.audio.Muted
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Output
import hearpack.core.stream.Failure
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.Recording
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.SessionListener
import hearpack.core.stream.SoundEvent
import hearpack.core.trace.ColdStart
import hearpack.core.trace.StreamFigures

/** What a [Hearpack] is doing. */
enum class HearpackPhase {
    LOADING,
    CHECKING,
    READY,
    STARTING,
    RUNNING,

    /** The last of what was captured is worked on. */
    STOPPING,

    /** The bundle or the model cannot be used; [Hearpack.load] tries again. */
    FAILED,
    CLOSED,
}

/** What a screen may want to know of a [Hearpack]; all of it on the main thread, and each of it may be left out. */
interface HearpackListener : SessionListener {
    /** Who computes, who refused to, and what that took. */
    fun onLoaded(
        opened: OpenedEngine,
        coldStart: ColdStart,
    ) = Unit

    /** The self-check has come so far, 0 to 1. */
    fun onChecking(fraction: Double) = Unit

    fun onChecked(report: SelfCheckReport) = Unit

    /** The bundle or the model cannot be used: a BundleException, an EngineException, or what the library threw. */
    fun onRefused(error: Throwable) = Unit

    /** Where an enhancer plays, and why nothing is heard, null where all is. */
    fun onOutput(
        output: Output,
        muted: Muted?,
    ) = Unit

    fun onStopped(result: StreamResult) = Unit

    override fun onOpened(opened: OpenedCapture) = Unit

    override fun onEvent(event: SoundEvent) = Unit

    override fun onFigures(figures: StreamFigures) = Unit

    override fun onSilenced(silenced: Boolean) = Unit

    override fun onFailed(failure: Failure) = Unit
}

/**
 * What is left of a stream.
 *
 * @property recording an enhancer's last 30 s, in and out, aligned; null for a classifier.
 */
class StreamResult internal constructor(
    val recording: Recording?,
    private val write: (() -> String)?,
) {
    /** Whether the microphone was open. */
    val hasTrace: Boolean get() = write != null

    /**
     * The device trace, for `hearpack fit-device`; null if nothing was heard. It may be long: not for the main thread.
     *
     *     result.trace()?.let { File(context.filesDir, "trace.json").writeText(it) }
     */
    fun trace(): String? = write?.invoke()
}
