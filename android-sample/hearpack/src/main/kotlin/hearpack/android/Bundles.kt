package hearpack.android

import android.content.Context
import android.content.res.AssetManager
import android.os.Build
import com.google.ai.edge.litert.CompiledModel
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.BundleException
import hearpack.core.bundle.BundleFiles
import hearpack.core.bundle.ComputeUnit
import hearpack.core.bundle.EngineException
import hearpack.core.bundle.ModelStore
import hearpack.core.bundle.Task
import hearpack.core.bundle.WeightCache
import hearpack.core.stream.EngineFactory
import hearpack.core.stream.InferenceEngine
import java.io.File
import java.io.IOException
import java.io.InputStream

private const val FOLDER = "bundles"

/** A bundle that `hearpack install` put into the assets. */
class AssetFiles(
    private val assets: AssetManager,
    override val name: String,
) : BundleFiles {
    override fun open(path: String): InputStream = assets.open("$FOLDER/$name/$path")
}

/** The bundles in the app, and engines for them. */
class Bundles(
    private val context: Context,
) : EngineFactory {
    private val models = ModelStore(File(context.noBackupFilesDir, "models"))
    private val cache = WeightCache(File(context.noBackupFilesDir, "xnnpack"), Build.SUPPORTED_ABIS.first())

    /** Whether the engine opened last found a sound weight cache: cold, warm or none. */
    var weightCache = "none"
        private set

    /**
     * The first bundle of a task; null if there is none.
     *
     * @throws BundleException there is one, and it cannot be used.
     */
    fun find(task: Task): Bundle? {
        val names = context.assets.list(FOLDER)?.sorted() ?: emptyList()
        var refused: BundleException? = null
        for (name in names) {
            try {
                val bundle = Bundle.open(AssetFiles(context.assets, name), Build.VERSION.SDK_INT)
                if (bundle.manifest.task == task) return bundle
            } catch (e: BundleException) {
                refused = e
            }
        }
        // A bundle that cannot be read does not say what it is for: better reported on both pages than on none.
        if (refused != null) throw refused
        return null
    }

    override fun open(
        bundle: Bundle,
        unit: ComputeUnit,
    ): InferenceEngine {
        // LiteRT copies an asset onto the heap, and maps a file.
        val file = models.file(bundle).path
        val load = { options: CompiledModel.Options -> CompiledModel.create(file, options) }
        // Unrolled hops repeat the same weights: without the cache each is packed again (docs/latency.md).
        val unrolled = unit == ComputeUnit.CPU && bundle.manifest.buffer.hopsPerCall > 1
        weightCache = "none"
        if (!unrolled) return LiteRtEngine.open(bundle, unit, null, load)
        val sha256 =
            bundle.artefact.files
                .first()
                .sha256
        val key = cache.key(sha256, LiteRtEngine.VERSION, LiteRtEngine.THREADS)
        try {
            val (warm, engine) = cache.open(key) { LiteRtEngine.open(bundle, unit, it, load) }
            weightCache = if (warm) "warm" else "cold"
            return engine
        } catch (e: IOException) {
            throw EngineException("weight cache: ${e.message}", e)
        }
    }
}
