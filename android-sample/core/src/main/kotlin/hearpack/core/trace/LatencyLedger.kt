package hearpack.core.trace

import hearpack.core.audio.resamplerDelay
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

/** A part's time as it is known: what half of it, and 95 % of it, do not exceed. */
data class Part(
    val nanos: Long,
    val highNanos: Long,
    val known: Known,
) {
    companion object {
        fun measured(
            p50Nanos: Long,
            p95Nanos: Long = p50Nanos,
        ) = Part(p50Nanos, p95Nanos, Known.MEASURED)

        fun stated(nanos: Long) = Part(nanos, nanos, Known.STATED)
    }
}

/**
 * One part of the way from the microphone to the result.
 *
 * @property ms its p50.
 * @property highMs its p95; the same where it is always as long.
 */
data class LatencyPart(
    val name: LatencyName,
    val ms: Double,
    val highMs: Double,
    val known: Known,
)

/** Latency as a sum of named parts. */
data class LatencyLedger(
    val parts: List<LatencyPart>,
) {
    val totalMs: Double get() = parts.sumOf { it.ms }

    /** The sum of the parts' p95: more than the p95 of the sum, for they are seldom late together. */
    val totalHighMs: Double get() = parts.sumOf { it.highMs }

    companion object {
        /**
         * @param captureBlock what of the microphone comes at once.
         * @param inputRoute from the hardware's timestamp to our read; left out where it is 0, not known.
         * @param wait from a buffer being complete to its call's begin; left out where it is 0.
         * @param compute of the paced calls.
         * @param playout held in the playout ring; null for a classifier.
         * @param outputRoute from the ring to the air; null for a classifier.
         */
        fun of(
            manifest: Manifest,
            deviceRateHz: Int,
            captureBlock: Part,
            inputRoute: Part,
            wait: Part,
            compute: Part,
            playout: Part?,
            outputRoute: Part?,
        ): LatencyLedger {
            val rate = manifest.geometry.sampleRateHz
            val parts = mutableListOf<LatencyPart>()

            fun add(
                name: LatencyName,
                part: Part,
            ) {
                parts += LatencyPart(name, part.nanos / 1e6, part.highNanos / 1e6, part.known)
            }

            fun exact(
                name: LatencyName,
                samples: Int,
                rateHz: Int,
            ) {
                val ms = samples * 1000.0 / rateHz
                parts += LatencyPart(name, ms, ms, Known.EXACT)
            }
            add(LatencyName.CAPTURE_BLOCK, captureBlock)
            if (inputRoute.highNanos > 0) add(LatencyName.INPUT_ROUTE, inputRoute)
            exact(LatencyName.RESAMPLER, resamplerDelay(deviceRateHz, rate), rate)
            exact(LatencyName.FRAMING, manifest.hopSamples, rate)
            val delay = manifest.geometry.delaySamples
            if (delay > 0) exact(LatencyName.MODEL_DELAY, delay, rate)
            if (wait.highNanos > 0) add(LatencyName.RING_WAIT, wait)
            add(LatencyName.COMPUTE, compute)
            if (playout != null && outputRoute != null) {
                exact(LatencyName.OUTPUT_RESAMPLER, resamplerDelay(rate, deviceRateHz), deviceRateHz)
                add(LatencyName.PLAYOUT_PREFILL, playout)
                add(LatencyName.OUTPUT_ROUTE, outputRoute)
            }
            return LatencyLedger(parts)
        }
    }
}
