package hearpack.core.ui

import hearpack.core.audio.Muted
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Output
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.Task
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.Failure
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.SoundEvent
import hearpack.core.trace.ColdStart
import hearpack.core.trace.StreamFigures

enum class Page(
    val task: Task,
) {
    LISTEN(Task.CLASSIFIER),
    ENHANCE(Task.ENHANCER),
}

/** What a message says; the app has a text for each. */
enum class NoticeKind {
    BUNDLE_ABSENT,
    BUNDLE_MISSING,
    BUNDLE_INVALID,
    BUNDLE_NEWER_SCHEMA,
    BUNDLE_DAMAGED,
    BUNDLE_MISMATCH,
    ENGINE_REFUSED,
    ACCELERATOR_REFUSED,
    SELF_CHECK_FAILED,
    PERMISSION_DENIED,
    PERMISSION_DENIED_FOR_GOOD,
    MIC_TAKEN,
    MIC_SILENCED,
    MIC_UNAVAILABLE,
    ROUTE_CHANGED,
    MONITOR_NEEDS_HEADSET,
    CONFIRM_HEADSET,
    OUTPUT_LOST,
    FOCUS_LOST,
    SPEAKER_FAILED,
    STREAM_FAILED,
}

/** The button that a message offers. */
enum class NoticeAction { NONE, ASK_AGAIN, OPEN_SETTINGS, TRY_AGAIN, CONFIRM_HEADSET }

/**
 * A message on the screen.
 *
 * @property detail what a library or a device said, in its own words; may be empty.
 * @property blocking whether the page cannot go on.
 */
data class Notice(
    val kind: NoticeKind,
    val detail: String,
    val action: NoticeAction,
    val blocking: Boolean,
)

enum class ModelPhase { ABSENT, LOADING, CHECKING, READY, BROKEN }

/**
 * The model of a page.
 *
 * @property choices names of the bundles that the page may run.
 */
data class ModelState(
    val phase: ModelPhase = ModelPhase.LOADING,
    val name: String = "",
    val choices: List<String> = emptyList(),
    val info: EngineInfo? = null,
    val checked: Double = 0.0,
    val selfCheck: SelfCheckReport? = null,
    val coldStart: ColdStart = ColdStart(),
    val notice: Notice? = null,
)

enum class Permission { UNKNOWN, GRANTED, DENIED, DENIED_FOR_GOOD }

enum class StreamPhase { IDLE, STARTING, RUNNING, STOPPING }

/** A sound event on the screen; a page shows the newest first. */
data class EventRow(
    val label: String,
    val onsetSeconds: Double,
    val offsetSeconds: Double?,
    val confidence: Double,
)

/**
 * Everything the two screens show: one immutable value.
 *
 * @property newest the sound that turned on last: what a screen reader says.
 */
data class UiState(
    val page: Page = Page.LISTEN,
    val models: Map<Page, ModelState> = Page.entries.associateWith { ModelState() },
    val permission: Permission = Permission.UNKNOWN,
    val stream: StreamPhase = StreamPhase.IDLE,
    val notice: Notice? = null,
    val events: List<EventRow> = emptyList(),
    val figures: StreamFigures? = null,
    val opened: OpenedCapture? = null,
    val newest: EventRow? = null,
    val canCompare: Boolean = false,
    val canShare: Boolean = false,
) {
    val model: ModelState get() = models.getValue(page)

    /** What the page says: what stops it, or what happened last. */
    val shown: Notice? get() = model.notice?.takeIf { it.blocking } ?: notice ?: model.notice

    /** Whether another bundle may be chosen now. */
    val canChoose: Boolean
        get() =
            stream == StreamPhase.IDLE && model.choices.size > 1 &&
                model.phase in setOf(ModelPhase.READY, ModelPhase.BROKEN)

    val canStart: Boolean get() = stream == StreamPhase.IDLE && model.phase == ModelPhase.READY
}

/** What happens; the only way to change [UiState]. */
sealed interface UiEvent {
    data class PageChosen(
        val page: Page,
    ) : UiEvent

    /** A page's bundles are known; [chosen] of them is loaded now. */
    data class BundleChosen(
        val page: Page,
        val choices: List<String>,
        val chosen: String,
    ) : UiEvent

    data class BundleAbsent(
        val page: Page,
    ) : UiEvent

    data class BundleRefused(
        val page: Page,
        val fault: BundleFault,
        val message: String,
    ) : UiEvent

    data class EngineRefused(
        val page: Page,
        val message: String,
    ) : UiEvent

    data class EngineReady(
        val page: Page,
        val name: String,
        val info: EngineInfo,
        val refused: List<Pair<ComputeUnit, String>>,
        val coldStart: ColdStart,
    ) : UiEvent

    data class Checking(
        val page: Page,
        val fraction: Double,
    ) : UiEvent

    data class SelfChecked(
        val page: Page,
        val result: SelfCheckReport,
    ) : UiEvent

    data object PermissionGranted : UiEvent

    /** [canAskAgain]: the system will show its question once more. */
    data class PermissionDenied(
        val canAskAgain: Boolean,
    ) : UiEvent

    data object StartPressed : UiEvent

    data object StopPressed : UiEvent

    /** Where an enhancer plays is another output, or the user has answered; [muted]: why nothing is heard, if so. */
    data class OutputChanged(
        val output: Output,
        val muted: Muted?,
    ) : UiEvent

    /** The speaker died; the stream goes on. */
    data class SpeakerFailed(
        val message: String,
    ) : UiEvent

    data class Opened(
        val opened: OpenedCapture,
    ) : UiEvent

    data class EventCame(
        val event: SoundEvent,
        val sampleRateHz: Int,
        val hopSamples: Int,
        val firstEnd: Int,
    ) : UiEvent

    data class FiguresCame(
        val figures: StreamFigures,
    ) : UiEvent

    data class Silenced(
        val silenced: Boolean,
    ) : UiEvent

    data class Failed(
        val failure: Failure,
    ) : UiEvent

    data class Stopped(
        val hasRecording: Boolean,
    ) : UiEvent
}
