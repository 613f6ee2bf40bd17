package hearpack.android

import com.google.ai.edge.litert.Accelerator
import com.google.ai.edge.litert.CompiledModel
import com.google.ai.edge.litert.LiteRtException
import com.google.ai.edge.litert.TensorBuffer
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.stream.EngineInfo
import hearpack.core.stream.InferenceEngine

/**
 * LiteRT's CompiledModel as an engine. Tensors are found by the names that the manifest gives, never by position.
 *
 * On the CPU the two banks of state are LiteRT's own buffers that change roles from call to call, so state is never
 * copied. An accelerator may want other memory for outputs than for inputs: there state goes through the host.
 */
class LiteRtEngine private constructor(
    private val model: CompiledModel,
    bundle: Bundle,
    override val info: EngineInfo,
) : InferenceEngine {
    private val manifest = bundle.manifest
    private val artefact = bundle.artefact
    private val inPlace = info.used == ComputeUnit.CPU
    private val initial = manifest.states.map { FloatArray(it.size) }
    private val audio = input(manifest.inputs.first().name)
    private val output = output(manifest.outputs.first().name)
    private val otherOutputs = manifest.outputs.drop(1).map { it.name to output(it.name) }
    private val banks = List(2) { manifest.states.map { input(it.inName) } }
    private val staged = if (inPlace) emptyList() else manifest.states.map { output(it.outName) }
    private val inputsOf = List(2) { bank -> inputMap(bank) }
    private val outputsOf = List(2) { bank -> outputMap(bank) }

    private fun input(name: String) = model.createInputBuffer(artefact.nameInFile(name))

    private fun output(name: String) = model.createOutputBuffer(artefact.nameInFile(name))

    private fun inputMap(bank: Int): Map<String, TensorBuffer> =
        mapOf(artefact.nameInFile(manifest.inputs.first().name) to audio) +
            manifest.states.indices.associate { artefact.nameInFile(manifest.states[it].inName) to banks[bank][it] }

    private fun outputMap(bank: Int): Map<String, TensorBuffer> {
        val states = if (inPlace) banks[bank] else staged
        return mapOf(artefact.nameInFile(manifest.outputs.first().name) to output) +
            otherOutputs.associate { (name, buffer) -> artefact.nameInFile(name) to buffer } +
            manifest.states.indices.associate { artefact.nameInFile(manifest.states[it].outName) to states[it] }
    }

    override fun reset(bank: Int) =
        translated("reset") { banks[bank].forEachIndexed { i, buffer -> buffer.writeFloat(initial[i]) } }

    override fun run(
        audio: FloatArray,
        output: FloatArray,
        from: Int,
        to: Int,
    ) {
        translated("run") {
            this.audio.writeFloat(audio)
            model.run(inputsOf[from], outputsOf[to])
            for (i in staged.indices) banks[to][i].writeFloat(staged[i].readFloat())
            val values = this.output.readFloat()
            if (values.size != output.size) {
                throw EngineException("expected ${output.size} values per call, the model gives ${values.size}")
            }
            values.copyInto(output)
        }
    }

    override fun close() {
        (listOf(audio, output) + otherOutputs.map { it.second } + banks.flatten() + staged).forEach { it.close() }
        model.close()
    }

    companion object {
        /** The version that `gradle/libs.versions.toml` takes from Maven. */
        const val VERSION = "2.3.0"
        const val THREADS = 1

        /**
         * @param load compiles the model with these options: from an asset on a phone, from a file in tests.
         * @param weightCache path of XNNPACK's weight cache, on the CPU; null for none.
         * @throws EngineException LiteRT refuses the model on [unit], or its tensors are not the manifest's.
         */
        fun open(
            bundle: Bundle,
            unit: ComputeUnit,
            weightCache: String?,
            load: (CompiledModel.Options) -> CompiledModel,
        ): LiteRtEngine {
            val accelerator =
                when (unit) {
                    ComputeUnit.CPU -> Accelerator.CPU
                    ComputeUnit.GPU -> Accelerator.GPU
                    ComputeUnit.NPU -> Accelerator.NPU
                }
            val options = CompiledModel.Options(accelerator)
            if (unit == ComputeUnit.CPU) {
                options.cpuOptions =
                    CompiledModel.CpuOptions(numThreads = THREADS, xnnPackWeightCachePath = weightCache)
            }
            val detail = if (unit == ComputeUnit.CPU) "XNNPACK, $THREADS thread" else "LiteRT ${unit.name}"
            return translated("load ${bundle.modelPath} on $unit") {
                val model = load(options)
                try {
                    LiteRtEngine(model, bundle, EngineInfo("litert", VERSION, unit, unit, detail))
                } catch (e: LiteRtException) {
                    model.close()
                    throw e
                }
            }
        }

        private inline fun <T> translated(
            what: String,
            body: () -> T,
        ): T =
            try {
                body()
            } catch (e: LiteRtException) {
                throw EngineException("LiteRT cannot $what: ${e.message ?: e.javaClass.simpleName}", e)
            }
    }
}
