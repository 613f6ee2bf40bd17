package hearpack.tests

import hearpack.core.audio.Resampler
import hearpack.core.bundle.Bundle
import hearpack.core.bundle.FolderFiles
import hearpack.core.bundle.floats
import hearpack.core.stream.InferenceEngine
import hearpack.core.stream.StreamLoop
import org.json.JSONArray
import org.json.JSONObject
import org.junit.Assume.assumeTrue
import java.io.File
import kotlin.random.Random

/**
 * What pytest prepared: bundles, and what Python's CompiledModel gives on the same artefacts. Under Gradle it is not there,
 * and the tests that need it are skipped.
 */
object Given {
    private val root: File
        get() {
            val given = System.getProperty("given")
            assumeTrue("pytest prepares bundles and references: make test-android", given != null)
            return File(given)
        }

    fun bundleFolder(name: String) = File(root, "bundles/$name")

    fun bundle(name: String): Bundle = Bundle.open(FolderFiles(bundleFolder(name)), API)

    fun file(path: String) = File(root, path)

    fun floats(path: String): FloatArray = FolderFiles(root).floats(path)

    /** An empty folder of the test's own. */
    fun scratch(name: String): File = File(root, "scratch/$name").apply { deleteRecursively() }.apply { mkdirs() }

    const val API = 35
}

/** Makes `files` of a bundle's manifest fit what lies in the folder: what a hostile hand does, too. */
fun rehash(folder: File) {
    val manifest = File(folder, "manifest.json")
    val data = JSONObject(manifest.readText())
    val listed = data.getJSONArray("files")
    val paths = (0 until listed.length()).map { listed.getJSONObject(it).getString("path") }
    val there = paths.distinct().filter { File(folder, it).isFile }
    val entries =
        there.sorted().map {
            val bytes = File(folder, it).readBytes()
            JSONObject().put("path", it).put("sha256", sha256(bytes)).put("bytes", bytes.size)
        }
    manifest.writeText(data.put("files", JSONArray(entries)).toString())
}

/** Sizes of blocks that add up to [total]: fixed, or ragged from a seed, empty ones among them. */
fun partition(
    total: Int,
    block: Int?,
    seed: Int = 1,
): List<Int> {
    val random = Random(seed)
    val sizes = mutableListOf<Int>()
    var left = total
    while (left > 0) {
        val n = minOf(left, block ?: (random.nextInt(0, 4) * random.nextInt(0, 900)))
        sizes += n
        left -= n
    }
    return sizes
}

/** A stream through resampler and loop in blocks of these sizes; everything the loop gave, one after the other. */
class Streamed(
    bundle: Bundle,
    engine: InferenceEngine,
    rateHz: Int,
    samples: FloatArray,
    sizes: List<Int>,
) {
    val ends = mutableListOf<Long>()
    val rows = mutableListOf<FloatArray>()
    val flat: FloatArray get() = rows.flatMap { it.asIterable() }.toFloatArray()
    val inSamples: Long

    init {
        val loop =
            StreamLoop(engine, bundle.manifest, { end, values, count ->
                ends += end
                rows += values.copyOf(count)
            })
        val resampler = Resampler(rateHz, bundle.manifest.geometry.sampleRateHz)
        val work = FloatArray(resampler.mostOutputs(maxOf(sizes.max(), 8192)))
        var at = 0
        for (n in sizes) {
            loop.push(work, 0, resampler.process(samples, at, n, work))
            at += n
        }
        loop.push(work, 0, resampler.flush(work))
        loop.flush()
        inSamples = loop.inSamples
    }
}
