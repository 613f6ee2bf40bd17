package hearpack.core.bundle

import java.io.File
import java.io.IOException

/**
 * Models as plain files, which a runtime maps into memory: what lies in an app's package can only be copied onto the heap.
 *
 * @param folder the app's own, for nothing else: [keep] deletes what it does not know.
 */
class ModelStore(
    private val folder: File,
) {
    /**
     * The file of a bundle's model, copied the first time.
     *
     * @throws BundleException the bundle's file is gone or was changed meanwhile.
     * @throws EngineException no room.
     */
    fun file(bundle: Bundle): File {
        val entry = bundle.artefact.files.first()
        val file = File(folder, "${entry.sha256}.tflite")
        if (file.length() == entry.bytes) return file
        val aside = File(folder, "${entry.sha256}.tmp") // renamed when it is whole
        bundle.files.reading(entry.path) { stream ->
            written { folder.mkdirs() }
            val out = written { aside.outputStream() }
            out.use { stream.each(entry.path, entry.bytes) { block, n -> written { out.write(block, 0, n) } } }
        }
        val (bytes, sha256) = FolderFiles(folder).digest(aside.name)
        if (bytes != entry.bytes || sha256 != entry.sha256) {
            aside.delete()
            val message = "${bundle.files.name}/${entry.path}: was changed while it was copied; install it again"
            throw BundleException(BundleFault.DAMAGED, message)
        }
        if (!aside.renameTo(file)) throw EngineException("$aside cannot be renamed; try again")
        return file
    }

    private fun <T> written(body: () -> T): T =
        try {
            body()
        } catch (e: IOException) {
            throw EngineException("the model cannot be copied (${e.message}); free some space and try again", e)
        }

    /** Deletes the models of all other bundles. */
    fun keep(bundles: List<Bundle>) {
        val wanted = bundles.map { "${it.artefact.files.first().sha256}.tflite" }
        folder.listFiles()?.filter { it.name !in wanted }?.forEach(File::delete)
    }
}
