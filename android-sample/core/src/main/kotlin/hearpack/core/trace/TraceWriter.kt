package hearpack.core.trace

import hearpack.core.audio.CaptureFormat
import hearpack.core.audio.OpenedCapture
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.stream.DeviceFigures
import hearpack.core.stream.OpenedEngine
import hearpack.core.stream.SoundEvent
import org.json.JSONArray
import org.json.JSONObject

/** Who wrote a trace. */
data class AppInfo(
    val version: String,
    val debug: Boolean,
)

/** Where it ran; no serial number, no account. */
data class DeviceInfo(
    val manufacturer: String,
    val model: String,
    val soc: String?,
    val osVersion: String,
    val androidApi: Int,
    val emulated: Boolean,
    val cores: Int,
    val memoryBytes: Long?,
    val lowPowerMode: Boolean,
)

/** How a stream ended. */
data class TraceEnd(
    val timeNs: Long,
    val reason: String,
    val message: String?,
    val peakMemoryBytes: Long?,
)

/** Writes a device trace as docs/device-trace.schema.json asks; `hearpack fit-device` reads it. */
class TraceWriter(
    private val app: AppInfo,
    private val device: DeviceInfo,
    private val bundle: Bundle,
    private val opened: OpenedEngine,
    private val threads: Int,
) {
    /** @throws BundleException there was no stream to write of. */
    fun write(
        trace: TraceRecorder,
        capture: OpenedCapture,
        ringSamples: Int,
        devices: DeviceFigures,
        end: TraceEnd,
    ): String {
        val inferences = inferences(trace)
        val text =
            JSONObject()
                .put("schema", "hearpack-trace/1")
                .put("app", app())
                .put("device", device())
                .put("bundle", bundle())
                .put("audio", audio(capture, ringSamples, devices))
                .put("cold_start", coldStart(trace))
                .put("callbacks", callbacks(trace))
                .put("inferences", inferences)
                .put("gaps", gaps(trace))
        synchronized(trace.lock) {
            text
                .put("thermal", JSONArray(trace.thermal.map { thermal(it) }))
                .put("routes", JSONArray(trace.routes.map { route(it) }))
                .put("events", JSONArray(trace.events.filter { it.first.offsetSample != null }.map { event(it) }))
        }
        playback(devices)?.let { text.put("playback", it) }
        val calls = trace.inferences.added + warmUps(trace)
        return text
            .put("gains", JSONArray())
            .put("compute_units", computeUnits(trace))
            .put("end", end(end, trace, calls))
            .toString()
    }

    private fun app() =
        JSONObject()
            .put("name", "hearpack-android")
            .put("version", app.version)
            .put("build", if (app.debug) "debug" else "release")

    private fun device() =
        JSONObject()
            .put("manufacturer", device.manufacturer)
            .put("model", device.model)
            .putOpt("soc", device.soc)
            .put("os", "android")
            .put("os_version", device.osVersion)
            .put("android_api", device.androidApi)
            .put("emulated", device.emulated)
            .put("cores", device.cores)
            .putOpt("memory_bytes", device.memoryBytes)
            .put("low_power_mode", device.lowPowerMode)

    private fun bundle() =
        JSONObject()
            .put("name", bundle.manifest.name)
            .put("buffer_samples", bundle.manifest.buffer.samples)
            .put("artefact_id", bundle.artefact.id)
            .put(
                "artefact_sha256",
                bundle.artefact.files
                    .first()
                    .sha256,
            ).put("runtime", opened.engine.info.runtime)
            .put("runtime_version", opened.engine.info.version)
            .put("threads", threads)
            .putOpt("window_hop_samples", bundle.manifest.decisions?.windowHopSamples)

    private fun audio(
        capture: OpenedCapture,
        ringSamples: Int,
        devices: DeviceFigures,
    ) = JSONObject()
        .put("model_rate_hz", bundle.manifest.geometry.sampleRateHz)
        .put("requested", format(capture.requested))
        .put("granted", format(capture.granted).putFrames(devices.lumpFrames))
        .put("ring_samples", ringSamples)

    private fun format(format: CaptureFormat) =
        JSONObject()
            .put("rate_hz", format.rateHz)
            .put("channels", format.channels)
            .put("block_frames", format.blockFrames)
            .put("format", format.encoding)
            .put("mode", format.mode)
            .put("source", format.source)

    /** What came at once is what the system granted, whatever was asked for. */
    private fun JSONObject.putFrames(lump: Int) = if (lump > 0) put("block_frames", lump) else this

    private fun playback(devices: DeviceFigures): JSONObject? {
        val rate = devices.playRateHz ?: return null
        val row = JSONObject().put("rate_hz", rate).put("block_frames", devices.playBlockFrames)
        if (devices.playBufferFrames > 0) row.put("buffer_frames", devices.playBufferFrames)
        row.put("underruns", devices.playUnderruns)
        if (devices.latencyP50Nanos > 0) {
            row.put("latency_ns", devices.latencyP50Nanos).put("latency_p95_ns", devices.latencyP95Nanos)
        }
        return row
    }

    private fun warmUps(trace: TraceRecorder): Int =
        if (trace.coldStart.firstCallBeginNs != null && trace.coldStart.firstCallEndNs != null) 1 else 0

    private fun coldStart(trace: TraceRecorder): JSONObject {
        val c = trace.coldStart
        return JSONObject()
            .putOpt("app_ready_ns", c.appReadyNs)
            .putOpt("bundle_checked_ns", c.bundleCheckedNs)
            .putOpt("model_load_begin_ns", c.loadBeginNs)
            .putOpt("model_load_end_ns", c.loadEndNs)
            .put("warm_up_calls", 1)
            .putOpt("first_call_begin_ns", c.firstCallBeginNs)
            .putOpt("first_call_end_ns", c.firstCallEndNs)
            .putOpt("capture_begin_ns", c.captureBeginNs)
            .putOpt("first_callback_ns", firstCallback(trace))
            .putOpt("first_decision_ns", c.firstDecisionNs)
            .put("weight_cache", c.weightCache)
            .put("lost_samples", trace.lostSamples)
    }

    private fun firstCallback(trace: TraceRecorder): Long? {
        var first: Long? = null
        trace.callbacks.each { first = first ?: it[0] }
        return first
    }

    private fun callbacks(trace: TraceRecorder): JSONArray {
        val rows = JSONArray()
        trace.callbacks.each { v ->
            val row = JSONObject().put("time_ns", v[0])
            if (v[7] > 1) row.put("last_time_ns", v[6]).put("count", v[7]) else row.put("end_ns", v[1])
            row.put("frames", v[2]).put("rate_hz", v[3])
            if (v[4] >= 0) row.put("hardware_time_ns", v[4]).put("hardware_frame", v[5])
            rows.put(row)
        }
        return rows
    }

    private fun inferences(trace: TraceRecorder): JSONArray {
        val rows = JSONArray()
        val c = trace.coldStart
        if (warmUps(trace) > 0) {
            val warmUp = JSONObject().put("begin_ns", c.firstCallBeginNs).put("end_ns", c.firstCallEndNs)
            rows.put(warmUp.put("end_sample", 0).put("warm_up", true))
        }
        var last: JSONObject? = null
        trace.inferences.each { v ->
            val row = JSONObject().put("begin_ns", v[0]).put("end_ns", v[1])
            row.put("end_sample", v[2]).put("waiting_samples", v[3])
            if (v[7] > 1) {
                row.put("last_end_ns", v[4]).put("busy_ns", v[5])
                row.put("longest_ns", v[6]).put("count", v[7])
            }
            rows.put(row)
            last = row
        }
        last?.putOpt("error", trace.lastError)
        return rows
    }

    private fun gaps(trace: TraceRecorder): JSONArray {
        val rows = mutableListOf<JSONObject>()
        for (log in listOf(trace.captureGaps, trace.workerGaps, trace.playoutGaps)) {
            for (i in 0 until log.size) {
                val kind = GapKind.entries[log.values[1][i].toInt()]
                val row = JSONObject().put("time_ns", log.values[0][i]).put("kind", kind.name.lowercase())
                rows += row.put("samples", log.values[2][i]).put("rate_hz", log.values[3][i])
            }
        }
        return JSONArray(rows.sortedBy { it.getLong("time_ns") })
    }

    private fun thermal(state: ThermalState) =
        JSONObject().put("time_ns", state.timeNs).put("state", state.state).putOpt("headroom", state.headroom)

    private fun route(change: RouteChange) =
        JSONObject()
            .put("time_ns", change.timeNs)
            .put("input", change.input.inTrace)
            .put("output", change.output.inTrace)
            .put("rate_hz", change.rateHz)
            .put("channels", change.channels)
            .putOpt("reason", change.reason)

    private fun event(emitted: Pair<SoundEvent, Long>): JSONObject {
        val (event, timeNs) = emitted
        return JSONObject()
            .put("label", event.label)
            .put("index", event.index)
            .put("onset_sample", event.onsetSample + event.offsetOfRoute)
            .put("offset_sample", event.offsetSample?.plus(event.offsetOfRoute))
            .put("confidence", event.confidence)
            .put("emitted_at_sample", event.emittedAtSample + event.offsetOfRoute)
            .put("emitted_at_ns", timeNs)
    }

    private fun computeUnits(trace: TraceRecorder): JSONArray {
        val rows = JSONArray()
        val at = trace.coldStart.loadEndNs ?: 0
        val info = opened.engine.info
        val fallback = opened.refused.joinToString("; ") { (unit, why) -> "$unit refused: $why" }
        val first = opened.refused.firstOrNull()?.first ?: info.requested
        val detail = listOf(info.detail, fallback).filter { it.isNotEmpty() }.joinToString("; ")
        return rows.put(
            JSONObject()
                .put("time_ns", at)
                .put("requested", first.name.lowercase())
                .put("used", info.used.name.lowercase())
                .put("detail", detail),
        )
    }

    private fun end(
        end: TraceEnd,
        trace: TraceRecorder,
        inferences: Long,
    ) = JSONObject()
        .put("time_ns", end.timeNs)
        .put("reason", end.reason)
        .putOpt("message", end.message)
        .put("callbacks", trace.callbacks.added)
        .put("inferences", inferences)
        .putOpt("truncated_at_ns", trace.truncatedNs)
        .putOpt("peak_memory_bytes", end.peakMemoryBytes)
}
