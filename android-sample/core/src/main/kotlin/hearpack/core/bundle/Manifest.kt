package hearpack.core.bundle

import hearpack.core.audio.Stage
import hearpack.core.stream.DecisionTracker

/** The major schema that this app reads; `bundle-schema.txt` says the same to `hearpack install`. */
const val SCHEMA = "hearpack/1"

enum class Task { CLASSIFIER, ENHANCER, SEPARATOR }

enum class BufferKind { STEP, WINDOW }

enum class ComputeUnit { CPU, GPU, NPU }

/** The model's side of a stream; all counts in samples at [sampleRateHz]. */
data class Geometry(
    val sampleRateHz: Int,
    val channels: Int,
    val windowSamples: Int,
    val hopSamples: Int,
    val delaySamples: Int,
)

/** What one call of the graph takes in `audio`. */
data class BufferSpec(
    val kind: BufferKind,
    val hopsPerCall: Int,
    val samples: Int,
)

/** A tensor of the stream, float32. */
data class TensorSpec(
    val name: String,
    val shape: List<Int>,
) {
    val size: Int get() = shape.fold(1) { product, n -> product * n }
}

/** [inName] goes into a call, [outName] is what comes out and goes into the next one; a reset makes it zeros. */
data class StateSpec(
    val inName: String,
    val outName: String,
    val shape: List<Int>,
) {
    val size: Int get() = shape.fold(1) { product, n -> product * n }
}

/** What one label overrides; null: as for all. */
data class LabelDecisions(
    val onThreshold: Double?,
    val offThreshold: Double?,
    val minOnMs: Double?,
    val minOffMs: Double?,
)

/** How scores become events; [DecisionTracker] has the arithmetic. */
data class Decisions(
    val windowHopSamples: Int,
    val smoothingWindows: Int,
    val onThreshold: Double,
    val offThreshold: Double,
    val minOnMs: Double,
    val minOffMs: Double,
    val perLabel: Map<String, LabelDecisions>,
)

/** One file of a bundle, with its hash. */
data class FileEntry(
    val path: String,
    val sha256: String,
    val bytes: Long,
)

/** A figure's limit; its direction belongs to the metric. */
data class Tolerance(
    val metric: String,
    val limit: Double,
)

/** One exported model file. */
data class Artefact(
    val id: String,
    val format: String,
    val files: List<FileEntry>,
    val androidApi: Int,
    val allowedCompute: List<ComputeUnit>,
    val io: Map<String, String>,
    val tolerance: List<Tolerance>,
) {
    /** The name in the file of what the manifest calls [ours]. */
    fun nameInFile(ours: String): String = io[ours] ?: ours
}

/**
 * manifest.json, as docs/bundle.md gives it: everything that the app needs to know of a model.
 *
 * @property files every file of the bundle but the artefacts' own: what is not listed is not read.
 */
data class Manifest(
    val schema: String,
    val name: String,
    val task: Task,
    val geometry: Geometry,
    val buffer: BufferSpec,
    val inputs: List<TensorSpec>,
    val outputs: List<TensorSpec>,
    val states: List<StateSpec>,
    val decisions: Decisions?,
    val dsp: List<Stage>,
    val prefillSamples: Int?,
    val artefacts: List<Artefact>,
    val files: List<FileEntry>,
) {
    val folderName: String get() = "$name-${buffer.samples}.hearpack"

    /** How far the stream moves a call: a step net's buffer, a window's hop. */
    val hopSamples: Int
        get() =
            when {
                buffer.kind == BufferKind.STEP -> buffer.samples
                decisions != null -> decisions.windowHopSamples
                else -> geometry.hopSamples
            }
}
