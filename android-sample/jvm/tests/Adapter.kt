package hearpack.tests

import com.google.ai.edge.litert.CompiledModel
import hearpack.android.LiteRtEngine
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.ComputeUnit
import hearpack.core.stream.InferenceEngine
import java.io.File

/** The library's own adapter on a file. */
fun openEngine(
    bundle: Bundle,
    folder: File,
    unit: ComputeUnit = ComputeUnit.CPU,
    weightCache: String? = null,
): InferenceEngine =
    LiteRtEngine.open(bundle, unit, weightCache) { CompiledModel.create(File(folder, bundle.modelPath).path, it) }
