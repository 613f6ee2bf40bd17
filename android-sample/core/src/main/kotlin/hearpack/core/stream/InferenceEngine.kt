package hearpack.core.stream

import hearpack.core.audio.Clock
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.trace.TraceRecorder

/** Who computes, for people and for the trace. */
data class EngineInfo(
    val runtime: String,
    val version: String,
    val requested: ComputeUnit,
    val used: ComputeUnit,
    val detail: String,
)

/**
 * A loaded model with two banks of state. State is explicit: a call reads one bank and writes the other, so nothing is
 * mutated in place and a failed call leaves the state it began from.
 *
 * Implemented by the app's LiteRT adapter and by fakes in tests; used by one thread at a time.
 */
interface InferenceEngine : AutoCloseable {
    val info: EngineInfo

    /** Puts every state of [bank] (0 or 1) to its reset value. */
    fun reset(bank: Int)

    /**
     * One call.
     *
     * @param audio float32 [buffer.samples].
     * @param output receives the first output, float32.
     * @param from bank that is read.
     * @param to bank that is written.
     * @throws EngineException the library failed.
     */
    fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    )
}

/** Opens a manifest's artefact on a unit; the app's implementation asks LiteRT. */
fun interface EngineFactory {
    /** @throws EngineException the library refuses the model on this unit. */
    fun open(
        bundle: Bundle,
        unit: ComputeUnit,
    ): InferenceEngine
}

/** An engine, and why each faster unit that the bundle allows was not taken. */
class OpenedEngine(
    val engine: InferenceEngine,
    val refused: List<Pair<ComputeUnit, String>>,
)

/**
 * Tries what the bundle allows, fastest first (NPU, GPU, CPU), each with a first call on silence; keeps the reasons of
 * those that were refused.
 *
 * @throws EngineException no unit takes the model.
 */
fun openBest(
    bundle: Bundle,
    factory: EngineFactory,
    clock: Clock,
    trace: TraceRecorder,
): OpenedEngine {
    val refused = mutableListOf<Pair<ComputeUnit, String>>()
    for (unit in listOf(ComputeUnit.NPU, ComputeUnit.GPU, ComputeUnit.CPU)) {
        if (unit !in bundle.artefact.allowedCompute && unit != ComputeUnit.CPU) continue
        var engine: InferenceEngine? = null
        try {
            val begin = clock.nanos()
            engine = factory.open(bundle, unit)
            val loaded = clock.nanos()
            warmUp(bundle, engine)
            val warm = clock.nanos()
            trace.cold {
                it.copy(loadBeginNs = begin, loadEndNs = loaded, firstCallBeginNs = loaded, firstCallEndNs = warm)
            }
            return OpenedEngine(engine, refused)
        } catch (e: EngineException) {
            engine?.close()
            refused += unit to (e.message ?: "no reason given")
        }
    }
    val reasons = refused.joinToString("; ") { (unit, why) -> "$unit: $why" }
    throw EngineException("${bundle.manifest.name}: no compute unit takes ${bundle.artefact.id}: $reasons")
}

/** One call on silence: loaded is not warm. Leaves both banks at their reset values. */
fun warmUp(
    bundle: Bundle,
    engine: InferenceEngine,
) {
    engine.reset(0)
    engine.run(
        FloatArray(bundle.manifest.buffer.samples),
        FloatArray(
            bundle.manifest.outputs
                .first()
                .size,
        ),
        0,
        1,
    )
    engine.reset(0)
    engine.reset(1)
}
