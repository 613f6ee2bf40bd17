package hearpack.core.bundle

import java.io.File
import java.io.IOException

/**
 * XNNPACK's packed weights on disk, kept honest as runtimes/weight_cache.py keeps them.
 *
 * XNNPACK checks only the head of a cache file: with a flipped byte further down, or another model's weights of the
 * same shape, it computes nonsense without a word. So a cache is named after the model's hash, the library's version,
 * the threads and the processor, stamped with its own sha256 when it is built, and thrown away when the two differ.
 */
class WeightCache(
    private val folder: File,
    private val processor: String,
) {
    /** The name of a model's cache. */
    fun key(
        modelSha256: String,
        runtimeVersion: String,
        threads: Int,
    ): String = "${modelSha256.take(24)}-$runtimeVersion-t$threads"

    /**
     * Builds a model with its cache, from a sound one where there is one.
     *
     * @param build makes the model, given the path of the cache file to read or to write.
     * @return whether a sound cache was found, and the model.
     * @throws IOException the folder cannot be written.
     */
    fun <T> open(
        key: String,
        build: (String) -> T,
    ): Pair<Boolean, T> {
        if (!folder.isDirectory && !folder.mkdirs()) throw IOException("$folder cannot be made")
        val cache = File(folder, "$key-$processor.xnn")
        val stamp = File(folder, "$key-$processor.sha256")
        if (sound(cache, stamp)) return true to build(cache.path)
        stamp.delete()
        cache.delete()
        // Built aside and renamed, so that a killed process leaves no half cache; the mapping survives the rename.
        val aside = File(folder, "$key-$processor.tmp")
        aside.delete()
        val model = build(aside.path)
        if (aside.isFile && aside.length() > 0) {
            val digest = sha256(aside)
            if (!aside.renameTo(cache)) throw IOException("$aside cannot be renamed")
            val pending = File(folder, "$key-$processor.stamp")
            pending.writeText(digest + "\n")
            if (!pending.renameTo(stamp)) throw IOException("$pending cannot be renamed")
        }
        return false to model
    }

    private fun sound(
        cache: File,
        stamp: File,
    ) = stamp.isFile && cache.isFile && stamp.readText().trim() == sha256(cache)

    private fun sha256(file: File) = FolderFiles(folder).digest(file.name).second
}
