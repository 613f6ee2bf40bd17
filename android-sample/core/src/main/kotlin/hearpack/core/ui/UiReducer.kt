package hearpack.core.ui

import hearpack.core.audio.CaptureFault
import hearpack.core.audio.Monitoring
import hearpack.core.audio.Muted
import hearpack.core.audio.OpenedCapture
import hearpack.core.audio.Output
import hearpack.core.bundle.BundleFault
import hearpack.core.bundle.printable
import hearpack.core.stream.Failure
import hearpack.core.stream.SelfCheckReport
import hearpack.core.stream.eventSpan

private const val ROWS = 50
private val OF_PERMISSION = setOf(NoticeKind.PERMISSION_DENIED, NoticeKind.PERMISSION_DENIED_FOR_GOOD)

/** The next state of the screens: pure, so that every message is tested without a phone. */
fun reduce(
    state: UiState,
    event: UiEvent,
): UiState =
    when (event) {
        is UiEvent.PageChosen -> {
            if (state.stream == StreamPhase.IDLE) {
                UiState(page = event.page, models = state.models, permission = state.permission)
            } else {
                state
            }
        }

        is UiEvent.BundleChosen -> {
            chosen(state, event)
        }

        is UiEvent.BundleAbsent -> {
            state.broken(event.page, ModelPhase.ABSENT, Notice(NoticeKind.BUNDLE_ABSENT, "", NoticeAction.NONE, true))
        }

        is UiEvent.BundleRefused -> {
            state.broken(event.page, ModelPhase.BROKEN, Notice(of(event.fault), event.message, NoticeAction.NONE, true))
        }

        is UiEvent.EngineRefused -> {
            val notice = Notice(NoticeKind.ENGINE_REFUSED, printable(event.message), NoticeAction.TRY_AGAIN, true)
            state.broken(event.page, ModelPhase.BROKEN, notice)
        }

        is UiEvent.EngineReady -> {
            state.model(event.page) { ready(it, event) }
        }

        is UiEvent.Checking -> {
            state.model(event.page) { it.copy(phase = ModelPhase.CHECKING, checked = event.fraction) }
        }

        is UiEvent.SelfChecked -> {
            state.model(event.page) { checked(it, event.result) }
        }

        is UiEvent.PermissionGranted -> {
            state.copy(permission = Permission.GRANTED, notice = state.notice?.takeIf { it.kind !in OF_PERMISSION })
        }

        is UiEvent.PermissionDenied -> {
            denied(state, event.canAskAgain)
        }

        is UiEvent.StartPressed -> {
            started(state)
        }

        is UiEvent.StopPressed -> {
            if (state.stream == StreamPhase.IDLE) state else state.copy(stream = StreamPhase.STOPPING)
        }

        is UiEvent.OutputChanged -> {
            outputChanged(state, event.output, event.muted)
        }

        is UiEvent.SpeakerFailed -> {
            val notice = Notice(NoticeKind.SPEAKER_FAILED, printable(event.message), NoticeAction.NONE, false)
            if (state.stream == StreamPhase.IDLE) state else state.copy(notice = notice)
        }

        is UiEvent.Opened -> {
            opened(state, event.opened)
        }

        is UiEvent.EventCame -> {
            withEvent(state, event)
        }

        is UiEvent.FiguresCame -> {
            if (state.stream == StreamPhase.IDLE) state else state.copy(figures = event.figures)
        }

        is UiEvent.Silenced -> {
            silenced(state, event.silenced)
        }

        is UiEvent.Failed -> {
            failed(state, event.failure)
        }

        is UiEvent.Stopped -> {
            state.copy(
                stream = StreamPhase.IDLE,
                canCompare = event.hasRecording,
                canShare = state.opened != null,
                notice = state.notice?.takeIf { it.blocking },
            )
        }
    }

private fun UiState.model(
    page: Page,
    change: (ModelState) -> ModelState,
) = copy(models = models + (page to change(models.getValue(page))))

/** Nothing of the bundle before is left on its page. */
private fun chosen(
    state: UiState,
    event: UiEvent.BundleChosen,
): UiState {
    val fresh = ModelState(name = printable(event.chosen), choices = event.choices.map(::printable))
    val here = if (event.page == state.page) UiState(page = state.page, permission = state.permission) else state
    return here.copy(models = state.models + (event.page to fresh))
}

private fun UiState.broken(
    page: Page,
    phase: ModelPhase,
    notice: Notice,
) = model(page) { it.copy(phase = phase, notice = notice) }

private fun of(fault: BundleFault): NoticeKind =
    when (fault) {
        BundleFault.MISSING -> NoticeKind.BUNDLE_MISSING
        BundleFault.INVALID -> NoticeKind.BUNDLE_INVALID
        BundleFault.NEWER_SCHEMA -> NoticeKind.BUNDLE_NEWER_SCHEMA
        BundleFault.DAMAGED -> NoticeKind.BUNDLE_DAMAGED
        BundleFault.MISMATCH -> NoticeKind.BUNDLE_MISMATCH
    }

private fun ready(
    model: ModelState,
    event: UiEvent.EngineReady,
): ModelState {
    val why = event.refused.joinToString("; ") { (unit, reason) -> "$unit: $reason" }
    val fallback = Notice(NoticeKind.ACCELERATOR_REFUSED, printable(why), NoticeAction.NONE, false)
    return model.copy(
        phase = ModelPhase.READY,
        name = event.name,
        info = event.info,
        coldStart = event.coldStart,
        notice = fallback.takeIf { event.refused.isNotEmpty() },
    )
}

private fun checked(
    model: ModelState,
    result: SelfCheckReport,
): ModelState {
    val passed = model.copy(phase = ModelPhase.READY, checked = 1.0, selfCheck = result)
    if (result.passed) return passed
    // The device does not compute what the model computes: what it would show is not the model's.
    val notice = Notice(NoticeKind.SELF_CHECK_FAILED, "", NoticeAction.TRY_AGAIN, true)
    return passed.copy(phase = ModelPhase.BROKEN, notice = notice)
}

private fun denied(
    state: UiState,
    canAskAgain: Boolean,
): UiState {
    val permission = if (canAskAgain) Permission.DENIED else Permission.DENIED_FOR_GOOD
    val kind = if (canAskAgain) NoticeKind.PERMISSION_DENIED else NoticeKind.PERMISSION_DENIED_FOR_GOOD
    val action = if (canAskAgain) NoticeAction.ASK_AGAIN else NoticeAction.OPEN_SETTINGS
    return state.copy(permission = permission, stream = StreamPhase.IDLE, notice = Notice(kind, "", action, true))
}

private fun started(state: UiState): UiState =
    if (!state.canStart || state.permission != Permission.GRANTED) {
        state
    } else {
        state.copy(
            stream = StreamPhase.STARTING,
            notice = null,
            events = emptyList(),
            newest = null,
            figures = null,
            opened = null,
            canCompare = false,
            canShare = false,
        )
    }

private fun opened(
    state: UiState,
    opened: OpenedCapture,
): UiState {
    if (state.stream == StreamPhase.IDLE || state.stream == StreamPhase.STOPPING) return state
    val running = state.copy(stream = StreamPhase.RUNNING, opened = opened, notice = null)
    if (state.opened != null) {
        return running.copy(notice = Notice(NoticeKind.ROUTE_CHANGED, "", NoticeAction.NONE, false))
    }
    val muted = if (opened.output.monitoring == Monitoring.ALLOWED) null else Muted.ROUTE
    return outputChanged(running, opened.output, muted)
}

private val OF_OUTPUT =
    setOf(
        NoticeKind.MONITOR_NEEDS_HEADSET,
        NoticeKind.CONFIRM_HEADSET,
        NoticeKind.OUTPUT_LOST,
        NoticeKind.FOCUS_LOST,
    )

private fun outputChanged(
    state: UiState,
    output: Output,
    muted: Muted?,
): UiState {
    if (state.page != Page.ENHANCE || state.stream == StreamPhase.IDLE) return state
    val device = output.device
    val notice =
        when {
            muted == null -> null
            muted == Muted.NOISY -> Notice(NoticeKind.OUTPUT_LOST, "", NoticeAction.NONE, false)
            muted == Muted.FOCUS -> Notice(NoticeKind.FOCUS_LOST, "", NoticeAction.NONE, false)
            device == null -> Notice(NoticeKind.MONITOR_NEEDS_HEADSET, "", NoticeAction.NONE, false)
            else -> Notice(NoticeKind.CONFIRM_HEADSET, printable(device.name), NoticeAction.CONFIRM_HEADSET, false)
        }
    return state.copy(notice = notice ?: state.notice?.takeIf { it.kind !in OF_OUTPUT })
}

private fun withEvent(
    state: UiState,
    came: UiEvent.EventCame,
): UiState {
    val event = came.event
    val rate = came.sampleRateHz.toDouble()
    val (begin, end) = eventSpan(event, came.hopSamples, came.firstEnd)
    val row = EventRow(printable(event.label), begin / rate, end?.let { it / rate }, event.confidence)
    val open = state.events.indexOfFirst { it.label == row.label && it.onsetSeconds == row.onsetSeconds }
    if (open < 0) return state.copy(events = (listOf(row) + state.events).take(ROWS), newest = row)
    return state.copy(events = state.events.mapIndexed { i, old -> if (i == open) row else old })
}

private fun silenced(
    state: UiState,
    silenced: Boolean,
): UiState {
    if (silenced) return state.copy(notice = Notice(NoticeKind.MIC_SILENCED, "", NoticeAction.NONE, false))
    return state.copy(notice = state.notice?.takeIf { it.kind != NoticeKind.MIC_SILENCED })
}

private fun failed(
    state: UiState,
    failure: Failure,
): UiState {
    if (failure.fault == CaptureFault.NO_PERMISSION) return denied(state, canAskAgain = true)
    val kind =
        when (failure.fault) {
            CaptureFault.TAKEN -> NoticeKind.MIC_TAKEN
            CaptureFault.UNAVAILABLE, CaptureFault.ROUTE_CHANGED -> NoticeKind.MIC_UNAVAILABLE
            else -> NoticeKind.STREAM_FAILED
        }
    val notice = Notice(kind, printable(failure.message), NoticeAction.TRY_AGAIN, true)
    return state.copy(stream = StreamPhase.IDLE, notice = notice, canShare = state.opened != null)
}
