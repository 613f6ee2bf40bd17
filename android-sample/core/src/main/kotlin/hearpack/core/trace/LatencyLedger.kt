package hearpack.core.trace

import hearpack.core.audio.resamplerDelay
import hearpack.core.bundle.BufferKind
import hearpack.core.bundle.Manifest

/** How a part of the latency is known. A number that was measured and one that is stated never share a column. */
enum class Known { MEASURED, EXACT, STATED }

/** The parts, named as streaming/simulator/pipeline/ledger.py names them. */
enum class LatencyName {
    CAPTURE_BLOCK,
    INPUT_ROUTE,
    RESAMPLER,
    RING_WAIT,
    FRAMING,
    MODEL_DELAY,
    COMPUTE,
    OUTPUT_RESAMPLER,
    PLAYOUT_PREFILL,
    OUTPUT_ROUTE,
}

/** One part of the way from the microphone to the result. */
data class LatencyPart(
    val name: LatencyName,
    val ms: Double,
    val known: Known,
)

/** Latency as a sum of named parts. */
data class LatencyLedger(
    val parts: List<LatencyPart>,
) {
    val totalMs: Double get() = parts.sumOf { it.ms }

    companion object {
        /**
         * @param captureBlock frames of a capture block, at [deviceRateHz].
         * @param hardwareNanos from the hardware's timestamp to our read; 0 where it is not known.
         * @param waitNanos from a buffer being complete to its call's begin, p50; 0 where it is not known.
         * @param computeNanos p50 of the paced calls.
         * @param playoutSamples held in the playout ring, at the device's rate; null for a classifier.
         * @param playBlock frames the speaker's buffer holds, at the device's rate, as the system states it.
         */
        fun of(
            manifest: Manifest,
            deviceRateHz: Int,
            captureBlock: Int,
            hardwareNanos: Long,
            waitNanos: Long,
            computeNanos: Long,
            playoutSamples: Long?,
            playBlock: Int,
        ): LatencyLedger {
            val rate = manifest.geometry.sampleRateHz
            val device = 1000.0 / deviceRateHz
            val model = 1000.0 / rate
            val parts = mutableListOf<LatencyPart>()
            parts += LatencyPart(LatencyName.CAPTURE_BLOCK, captureBlock * device, Known.EXACT)
            if (hardwareNanos > 0) parts += LatencyPart(LatencyName.INPUT_ROUTE, hardwareNanos / 1e6, Known.MEASURED)
            parts += LatencyPart(LatencyName.RESAMPLER, resamplerDelay(deviceRateHz, rate) * model, Known.EXACT)
            parts += LatencyPart(LatencyName.FRAMING, manifest.hopSamples * model, Known.EXACT)
            val delay = manifest.geometry.delaySamples
            if (delay > 0) parts += LatencyPart(LatencyName.MODEL_DELAY, delay * model, Known.EXACT)
            if (waitNanos > 0) parts += LatencyPart(LatencyName.RING_WAIT, waitNanos / 1e6, Known.MEASURED)
            parts += LatencyPart(LatencyName.COMPUTE, computeNanos / 1e6, Known.MEASURED)
            if (playoutSamples != null) {
                parts +=
                    LatencyPart(LatencyName.OUTPUT_RESAMPLER, resamplerDelay(rate, deviceRateHz) * device, Known.EXACT)
                parts += LatencyPart(LatencyName.PLAYOUT_PREFILL, playoutSamples * device, Known.MEASURED)
                parts += LatencyPart(LatencyName.OUTPUT_ROUTE, playBlock * device, Known.STATED)
            }
            return LatencyLedger(parts)
        }
    }
}
