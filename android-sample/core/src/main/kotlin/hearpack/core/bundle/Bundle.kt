package hearpack.core.bundle

import java.io.File
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.nio.file.Files
import java.nio.file.LinkOption
import java.security.MessageDigest

/** Where a bundle's files are: the app's assets, or a folder. */
interface BundleFiles {
    val name: String

    /**
     * @param path has come through the gate: names with "/" between them, none of them "..".
     * @throws FileNotFoundException there is no such file.
     * @throws IOException there is something that is no plain file, or lies behind a link.
     */
    fun open(path: String): InputStream
}

/** A bundle in a folder. */
class FolderFiles(
    private val folder: File,
) : BundleFiles {
    override val name: String get() = folder.name

    override fun open(path: String): InputStream {
        var place = folder
        for (part in path.split("/")) {
            place = File(place, part)
            if (Files.isSymbolicLink(place.toPath())) {
                throw IOException("$path goes through a link, a bundle holds plain files")
            }
        }
        if (!place.exists()) throw FileNotFoundException("no $path")
        if (!place.isFile) throw IOException("$path is no plain file")
        return Files.newInputStream(place.toPath(), LinkOption.NOFOLLOW_LINKS)
    }
}

/** A bundle that was opened and checked. */
class Bundle(
    val files: BundleFiles,
    val manifest: Manifest,
    val artefact: Artefact,
    val labels: List<String>,
) {
    /** The model's file, relative to the bundle. */
    val modelPath: String get() = artefact.files.first().path

    /**
     * The bytes of a file of the manifest's `files`, proven to be those that were exported.
     *
     * @throws BundleException the manifest does not list it, the gate refuses it, or it was changed.
     */
    fun read(path: String): ByteArray = files.proven(manifest, path)

    /** Raw little-endian float32 of such a file, [count] of them or any number if null; throws as [read]. */
    fun floats(
        path: String,
        count: Int? = null,
    ): FloatArray = files.floats(read(path), path, count)

    companion object {
        /**
         * Opens a bundle: manifest, hashes of the artefact, labels.
         *
         * @param androidApi the device's API level; artefacts that need a newer one are passed over.
         * @throws BundleException what is wrong with it.
         */
        fun open(
            files: BundleFiles,
            androidApi: Int,
        ): Bundle {
            val manifest = manifest(files)
            val artefact = choose(files, manifest, androidApi)
            artefact.files.forEach { check(files, it) { files.digest(it.path, it.bytes) } }
            return Bundle(files, manifest, artefact, labels(files, manifest))
        }

        /**
         * The manifest alone: what a bundle is for, without a look at its other files.
         *
         * @throws BundleException there is none, or it is not valid.
         */
        fun manifest(files: BundleFiles): Manifest =
            ManifestReader.parse(files.text("manifest.json", LARGEST_MANIFEST), files.name)

        private fun choose(
            files: BundleFiles,
            manifest: Manifest,
            androidApi: Int,
        ): Artefact {
            val litert = manifest.artefacts.filter { it.format == "litert" }
            val installed = litert.filter { files.exists(it.files.first().path) }
            if (installed.isEmpty()) {
                val names = litert.joinToString { it.id }.ifEmpty { "none of format litert" }
                val message = "${files.name}: no artefact of the manifest is there ($names); install the bundle again"
                throw BundleException(BundleFault.MISSING, message)
            }
            return installed.find { it.androidApi <= androidApi }
                ?: throw BundleException(
                    BundleFault.INVALID,
                    "${files.name}: needs Android API ${installed.minOf {
                        it.androidApi
                    }}, this device has $androidApi",
                )
        }

        private fun labels(
            files: BundleFiles,
            manifest: Manifest,
        ): List<String> {
            if (manifest.task != Task.CLASSIFIER) return emptyList()
            val text = files.utf8(files.proven(manifest, "labels.txt"), "labels.txt")
            val labels = text.removeSuffix("\n").lines()
            val count =
                manifest.outputs
                    .first()
                    .shape
                    .last()
            if (labels.size != count) {
                val message = "${files.name}/labels.txt: expected $count labels, one per line, got ${labels.size}"
                throw BundleException(BundleFault.INVALID, message)
            }
            return labels
        }
    }
}

private fun BundleFiles.proven(
    manifest: Manifest,
    path: String,
): ByteArray {
    val entry = manifest.files.find { it.path == path }
    if (entry == null) {
        val message = "$name: $path is not among the manifest's `files`, so nothing vouches for it; export it again"
        throw BundleException(BundleFault.INVALID, message)
    }
    val bytes = bytes(path, entry.bytes)
    check(this, entry) { bytes.size.toLong() to sha256().digest(bytes).hex() }
    return bytes
}

private fun check(
    files: BundleFiles,
    entry: FileEntry,
    measured: () -> Pair<Long, String>,
) {
    val (bytes, sha256) = measured()
    if (bytes == entry.bytes && sha256 == entry.sha256) return
    throw BundleException(
        BundleFault.DAMAGED,
        "${files.name}/${entry.path}: does not match the manifest (expected ${entry.bytes} bytes, sha256 " +
            "${entry.sha256.take(
                12,
            )}…, got $bytes bytes, ${sha256.take(12)}…); changed or damaged, install the bundle again",
    )
}

/** Size and sha256 of a file of at most [most] bytes. */
internal fun BundleFiles.digest(
    path: String,
    most: Long = LARGEST_FILE,
): Pair<Long, String> =
    reading(path) { stream ->
        val digest = sha256()
        var total = 0L
        stream.each(path, most) { block, n ->
            digest.update(block, 0, n)
            total += n
        }
        total to digest.digest().hex()
    }

private fun sha256() = MessageDigest.getInstance("SHA-256")

internal fun ByteArray.hex(): String = joinToString("") { "%02x".format(it.toInt() and 0xff) }
