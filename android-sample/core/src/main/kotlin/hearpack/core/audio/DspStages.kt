package hearpack.core.audio

import hearpack.core.bundle.BufferKind
import hearpack.core.bundle.Fields
import hearpack.core.bundle.InvalidField
import hearpack.core.bundle.Manifest
import hearpack.core.bundle.Task

/** One stage of the plain DSP around a net, as the manifest gives it (docs/dsp.md). */
sealed interface Stage {
    data class Highpass(
        val cutoffHz: Double,
    ) : Stage

    data class Gain(
        val gainDb: Double,
    ) : Stage

    data class Gate(
        val thresholdDbfs: Double,
        val holdWindows: Int,
    ) : Stage

    data class WetDry(
        val attenuationLimitDb: Double,
    ) : Stage

    data class Limiter(
        val ceilingDbfs: Double,
        val releaseMs: Double,
    ) : Stage
}

private class Limits(
    val lowest: Double,
    val highest: Double,
    val optional: Double? = null,
)

private val FIELDS: Map<String, Map<String, Limits>> =
    mapOf(
        "highpass" to mapOf("cutoff_hz" to Limits(1.0, 20_000.0)),
        "gain" to mapOf("gain_db" to Limits(-60.0, 40.0)),
        "gate" to mapOf("threshold_dbfs" to Limits(-120.0, 0.0), "hold_windows" to Limits(0.0, 1_000.0, 0.0)),
        "wet_dry" to mapOf("attenuation_limit_db" to Limits(0.0, 120.0)),
        "limiter" to mapOf("ceiling_dbfs" to Limits(-60.0, 0.0), "release_ms" to Limits(1.0, 10_000.0)),
    )

/** Reads stages and refuses what it does not know: leaving a stage out would change what is heard. */
internal object DspReader {
    fun stage(fields: Fields): Stage {
        val kind = fields.string("kind")
        val known = FIELDS[kind] ?: throw InvalidField("dsp: $kind is no stage; valid: ${FIELDS.keys.joinToString()}")
        val unknown = fields.names() - known.keys - "kind"
        if (unknown.isNotEmpty()) throw InvalidField("dsp: $kind has no field ${unknown.first()}")
        val values =
            known.mapValues { (name, limits) ->
                val value = if (limits.optional != null && !fields.has(name)) limits.optional else fields.number(name)
                if (value < limits.lowest || value > limits.highest) {
                    throw InvalidField("dsp: $kind.$name must be ${limits.lowest} to ${limits.highest}, got $value")
                }
                value
            }
        return when (kind) {
            "highpass" -> Stage.Highpass(values.getValue("cutoff_hz"))
            "gain" -> Stage.Gain(values.getValue("gain_db"))
            "gate" -> Stage.Gate(values.getValue("threshold_dbfs"), values.getValue("hold_windows").toInt())
            "wet_dry" -> Stage.WetDry(values.getValue("attenuation_limit_db"))
            else -> Stage.Limiter(values.getValue("ceiling_dbfs"), values.getValue("release_ms"))
        }
    }

    /** Whether the stages suit the model; throws InvalidField. */
    fun check(m: Manifest) {
        val order = m.dsp.map { FIELDS.keys.indexOf(kindOf(it)) }
        if (order.zipWithNext().any { (a, b) -> a >= b }) {
            throw InvalidField("dsp: stages stand once each and in this order: ${FIELDS.keys.joinToString()}")
        }
        for (stage in m.dsp) {
            val gateFits = m.task == Task.CLASSIFIER && m.buffer.kind == BufferKind.WINDOW
            if (stage is Stage.Gate && !gateFits) throw InvalidField("dsp: a gate is for windowed classifiers")
            if ((stage is Stage.WetDry || stage is Stage.Limiter) && m.task != Task.ENHANCER) {
                throw InvalidField("dsp: ${kindOf(stage)} works on an enhancer's output")
            }
            val rate = m.geometry.sampleRateHz
            if (stage is Stage.Highpass && stage.cutoffHz > 0.45 * rate) {
                throw InvalidField("dsp: cutoff_hz ${stage.cutoffHz} is above 0.45 of the rate of $rate Hz")
            }
        }
    }

    private fun kindOf(stage: Stage): String =
        when (stage) {
            is Stage.Highpass -> "highpass"
            is Stage.Gain -> "gain"
            is Stage.Gate -> "gate"
            is Stage.WetDry -> "wet_dry"
            is Stage.Limiter -> "limiter"
        }
}
