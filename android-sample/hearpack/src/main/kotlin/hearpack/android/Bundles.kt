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
import hearpack.core.bundle.FolderFiles
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
     * All bundles: those that `hearpack install` put into the assets, and folders in `files/bundles` of the app's own
     * storage, where an app may put what it has downloaded. By name; none is looked into.
     */
    fun installed(): List<BundleFiles> {
        val assets = context.assets.list(FOLDER)?.sorted() ?: emptyList()
        val folders = File(context.filesDir, FOLDER).listFiles()?.filter { it.isDirectory }?.sorted() ?: emptyList()
        return assets.map { AssetFiles(context.assets, it) } + folders.map { FolderFiles(it) }
    }

    /**
     * The bundles for a task, and behind them those that cannot be read, for they do not say what they are for: better
     * reported on every page than on none. Only manifests are read.
     */
    fun of(task: Task): List<BundleFiles> {
        val (read, unread) = installed().map { it to taskOf(it) }.partition { it.second != null }
        return (read.filter { it.second == task } + unread).map { it.first }
    }

    private fun taskOf(files: BundleFiles): Task? =
        try {
            Bundle.manifest(files).task
        } catch (e: BundleException) {
            null // its opening says why
        }

    /**
     * The first bundle of a task; null if there is none.
     *
     * @throws BundleException there is one, and it cannot be used.
     */
    fun find(task: Task): Bundle? = of(task).firstOrNull()?.let { Bundle.open(it, Build.VERSION.SDK_INT) }

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
