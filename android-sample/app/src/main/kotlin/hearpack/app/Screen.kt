package hearpack.app

import android.app.Activity
import android.view.View
import android.widget.Button
import android.widget.ProgressBar
import android.widget.RadioButton
import android.widget.TextView
import hearpack.core.audio.Port
import hearpack.core.bundle.ComputeUnit
import hearpack.core.trace.ColdStart
import hearpack.core.trace.Known
import hearpack.core.trace.LatencyName
import hearpack.core.trace.StreamFigures
import hearpack.core.ui.EventRow
import hearpack.core.ui.ModelPhase
import hearpack.core.ui.ModelState
import hearpack.core.ui.Notice
import hearpack.core.ui.NoticeAction
import hearpack.core.ui.NoticeKind
import hearpack.core.ui.Page
import hearpack.core.ui.StreamPhase
import hearpack.core.ui.UiState

private const val FLOOR_DBFS = -60.0

/** Draws a [UiState] into the views of main.xml. */
class Screen(
    private val activity: Activity,
) {
    private fun text(id: Int) = activity.findViewById(id) as TextView

    private fun view(id: Int) = activity.findViewById(id) as View

    private fun show(
        id: Int,
        visible: Boolean,
    ) {
        view(id).visibility = if (visible) View.VISIBLE else View.GONE
    }

    /** Sets a text only when it changes: a screen reader speaks what is set. */
    private fun put(
        id: Int,
        value: String,
    ) {
        val view = text(id)
        if (view.text.toString() != value) view.text = value
    }

    fun show(state: UiState) {
        (view(R.id.page_listen) as RadioButton).isChecked = state.page == Page.LISTEN
        (view(R.id.page_enhance) as RadioButton).isChecked = state.page == Page.ENHANCE
        val idle = state.stream == StreamPhase.IDLE
        view(R.id.page_listen).isEnabled = idle
        view(R.id.page_enhance).isEnabled = idle
        show(R.id.pick, state.model.choices.size > 1)
        put(R.id.pick, activity.getString(R.string.pick, state.model.name))
        view(R.id.pick).isEnabled = state.canChoose
        put(R.id.model, model(state.model))
        notice(state.shown)
        val start = view(R.id.start) as Button
        start.isEnabled = if (idle) state.canStart else state.stream != StreamPhase.STOPPING
        val (label, described) =
            when (state.stream) {
                StreamPhase.IDLE -> R.string.start to R.string.start_described
                StreamPhase.STARTING, StreamPhase.RUNNING -> R.string.stop to R.string.stop_described
                StreamPhase.STOPPING -> R.string.stopping to R.string.stopping
            }
        put(R.id.start, activity.getString(label))
        start.contentDescription = activity.getString(described)
        level(state.figures)
        show(R.id.compare, state.page == Page.ENHANCE && state.canCompare)
        show(R.id.heard_heading, state.page == Page.LISTEN)
        show(R.id.heard, state.page == Page.LISTEN)
        // A screen reader says this line when it changes; the list below it is for looking at.
        show(R.id.newest, state.page == Page.LISTEN)
        put(R.id.newest, state.newest?.let { activity.getString(R.string.newest, it.label, it.onsetSeconds) } ?: "")
        put(R.id.heard, events(state.events))
        put(R.id.latency, latency(state))
        put(R.id.compute, compute(state))
        put(R.id.cold_start, coldStart(state.model.coldStart))
        view(R.id.share).isEnabled = state.canShare
    }

    private fun model(model: ModelState): String {
        val line =
            when (model.phase) {
                ModelPhase.ABSENT -> activity.getString(R.string.model_absent)
                ModelPhase.LOADING -> activity.getString(R.string.model_loading)
                ModelPhase.CHECKING -> activity.getString(R.string.model_checking, (model.checked * 100).toInt())
                ModelPhase.READY -> activity.getString(R.string.model_ready, model.name)
                ModelPhase.BROKEN -> activity.getString(R.string.model_broken)
            }
        val check = model.selfCheck ?: return line
        val frame = check.firstBadFrame
        val second = check.firstBadSecond
        val result =
            if (frame == null || second == null) {
                activity.getString(R.string.check_passed, check.metric, check.figure, check.limit)
            } else {
                activity.getString(R.string.check_failed, check.metric, check.figure, check.limit, second, frame)
            }
        return "$line\n$result"
    }

    private fun notice(notice: Notice?) {
        show(R.id.notice_panel, notice != null)
        if (notice == null) return
        put(R.id.notice, activity.getString(textOf(notice.kind)))
        put(R.id.notice_detail, notice.detail)
        show(R.id.notice_detail, notice.detail.isNotEmpty())
        show(R.id.notice_action, notice.action != NoticeAction.NONE)
        val action =
            when (notice.action) {
                NoticeAction.OPEN_SETTINGS -> R.string.action_settings
                NoticeAction.ASK_AGAIN -> R.string.action_ask
                NoticeAction.CONFIRM_HEADSET -> R.string.action_headset
                NoticeAction.TRY_AGAIN, NoticeAction.NONE -> R.string.action_try
            }
        put(R.id.notice_action, activity.getString(action))
        show(R.id.notice_other, notice.action == NoticeAction.CONFIRM_HEADSET)
    }

    private fun textOf(kind: NoticeKind): Int =
        when (kind) {
            NoticeKind.BUNDLE_ABSENT -> R.string.notice_bundle_absent
            NoticeKind.BUNDLE_MISSING -> R.string.notice_bundle_missing
            NoticeKind.BUNDLE_INVALID -> R.string.notice_bundle_invalid
            NoticeKind.BUNDLE_NEWER_SCHEMA -> R.string.notice_bundle_newer
            NoticeKind.BUNDLE_DAMAGED -> R.string.notice_bundle_damaged
            NoticeKind.BUNDLE_MISMATCH -> R.string.notice_bundle_mismatch
            NoticeKind.ENGINE_REFUSED -> R.string.notice_engine_refused
            NoticeKind.ACCELERATOR_REFUSED -> R.string.notice_accelerator_refused
            NoticeKind.SELF_CHECK_FAILED -> R.string.notice_self_check_failed
            NoticeKind.PERMISSION_DENIED -> R.string.notice_permission_denied
            NoticeKind.PERMISSION_DENIED_FOR_GOOD -> R.string.notice_permission_denied_for_good
            NoticeKind.MIC_TAKEN -> R.string.notice_mic_taken
            NoticeKind.MIC_SILENCED -> R.string.notice_mic_silenced
            NoticeKind.MIC_UNAVAILABLE -> R.string.notice_mic_unavailable
            NoticeKind.ROUTE_CHANGED -> R.string.notice_route_changed
            NoticeKind.MONITOR_NEEDS_HEADSET -> R.string.notice_monitor
            NoticeKind.CONFIRM_HEADSET -> R.string.notice_confirm_headset
            NoticeKind.OUTPUT_LOST -> R.string.notice_output_lost
            NoticeKind.FOCUS_LOST -> R.string.notice_focus_lost
            NoticeKind.SPEAKER_FAILED -> R.string.notice_speaker_failed
            NoticeKind.STREAM_FAILED -> R.string.notice_stream_failed
        }

    private fun level(figures: StreamFigures?) {
        val bar = view(R.id.level) as ProgressBar
        val dbfs = figures?.rmsDbfs?.coerceAtLeast(FLOOR_DBFS) ?: FLOOR_DBFS
        bar.progress = ((dbfs - FLOOR_DBFS) / -FLOOR_DBFS * bar.max).toInt()
        bar.contentDescription = activity.getString(R.string.level_described, bar.progress)
        put(R.id.level_text, if (figures == null) "" else activity.getString(R.string.level, dbfs, figures.peak))
    }

    private fun events(rows: List<EventRow>): String {
        if (rows.isEmpty()) return activity.getString(R.string.nothing_heard)
        return rows.joinToString("\n") {
            val end = it.offsetSeconds
            if (end == null) {
                activity.getString(R.string.heard_row, it.onsetSeconds, it.label, it.confidence)
            } else {
                activity.getString(R.string.heard_row_ended, it.onsetSeconds, end, it.label, it.confidence)
            }
        }
    }

    private fun latency(state: UiState): String {
        val ledger = state.figures?.ledger ?: return ""
        val rows =
            ledger.parts.map {
                val known =
                    when (it.known) {
                        Known.MEASURED -> R.string.known_measured
                        Known.EXACT -> R.string.known_exact
                        Known.STATED -> R.string.known_stated
                    }
                val name = activity.getString(nameOf(it.name))
                activity.getString(R.string.latency_row, name, it.ms, it.highMs, activity.getString(known))
            }
        val total = activity.getString(R.string.latency_total, ledger.totalMs, ledger.totalHighMs)
        return (rows + total).joinToString("\n")
    }

    private fun nameOf(part: LatencyName): Int =
        when (part) {
            LatencyName.CAPTURE_BLOCK -> R.string.part_capture_block
            LatencyName.INPUT_ROUTE -> R.string.part_input_route
            LatencyName.RESAMPLER -> R.string.part_resampler
            LatencyName.RING_WAIT -> R.string.part_ring_wait
            LatencyName.FRAMING -> R.string.part_framing
            LatencyName.MODEL_DELAY -> R.string.part_model_delay
            LatencyName.COMPUTE -> R.string.part_compute
            LatencyName.OUTPUT_RESAMPLER -> R.string.part_output_resampler
            LatencyName.PLAYOUT_PREFILL -> R.string.part_playout_prefill
            LatencyName.OUTPUT_ROUTE -> R.string.part_output_route
        }

    private fun nameOf(port: Port): Int =
        when (port) {
            Port.BUILT_IN -> R.string.port_built_in
            Port.WIRED -> R.string.port_wired
            Port.USB -> R.string.port_usb
            Port.BLUETOOTH_HFP, Port.BLUETOOTH_LE, Port.BLUETOOTH_A2DP -> R.string.port_bluetooth
            Port.HEARING_AID -> R.string.port_hearing_aid
            Port.FILE, Port.OTHER, Port.NONE -> R.string.port_other
        }

    private fun compute(state: UiState): String {
        val f = state.figures ?: return ""
        val info = state.model.info ?: return ""
        val ms = 1e6
        val lines = mutableListOf<String>()
        val unit =
            activity.getString(
                when (info.used) {
                    ComputeUnit.CPU -> R.string.unit_cpu
                    ComputeUnit.GPU -> R.string.unit_gpu
                    ComputeUnit.NPU -> R.string.unit_npu
                },
            )
        lines +=
            activity.getString(R.string.compute, info.detail, unit, f.p50Nanos / ms, f.p95Nanos / ms, f.calls, f.misses)
        lines += activity.getString(R.string.faults, f.ringOverruns, f.captureGaps, f.playoutUnderruns)
        if (f.nanSamples + f.limitedSamples + f.nanOutputs > 0) {
            lines += activity.getString(R.string.input_faults, f.nanSamples, f.limitedSamples, f.nanOutputs)
        }
        state.opened?.let {
            lines += activity.getString(R.string.capture, activity.getString(nameOf(it.port)), it.granted.rateHz)
        }
        return lines.joinToString("\n")
    }

    private fun coldStart(cold: ColdStart): String {
        val load = between(cold.loadBeginNs, cold.loadEndNs) ?: return ""
        val call = between(cold.firstCallBeginNs, cold.firstCallEndNs) ?: return ""
        return activity.getString(R.string.cold_start, load, call)
    }

    private fun between(
        begin: Long?,
        end: Long?,
    ): Double? = if (begin == null || end == null) null else (end - begin) / 1e6
}
