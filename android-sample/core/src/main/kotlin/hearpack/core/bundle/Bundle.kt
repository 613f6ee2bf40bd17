package hearpack.core.bundle

import java.io.File
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.security.MessageDigest

/** Where a bundle's files are: the app's assets, or a folder. */
interface BundleFiles {
    val name: String

    /** @throws FileNotFoundException there is no such file. */
    fun open(path: String): InputStream
}

/** A bundle in a folder. */
class FolderFiles(
    private val folder: File,
) : BundleFiles {
    override val name: String get() = folder.name

    override fun open(path: String): InputStream = File(folder, path).inputStream()
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
            val manifest = ManifestReader.parse(files.text("manifest.json"), files.name)
            val artefact = choose(files, manifest, androidApi)
            artefact.files.forEach { check(files, artefact, it) }
            manifest.states.filter { it.reset != "zeros" }.forEach { files.floats(it.reset, it.size) }
            return Bundle(files, manifest, artefact, labels(files, manifest))
        }

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

        private fun check(
            files: BundleFiles,
            artefact: Artefact,
            entry: FileEntry,
        ) {
            val (bytes, sha256) = files.digest(entry.path)
            if (bytes == entry.bytes && sha256 == entry.sha256) return
            throw BundleException(
                BundleFault.DAMAGED,
                "${files.name}/${entry.path}: does not match the manifest (expected ${entry.bytes} bytes, " +
                    "sha256 ${entry.sha256.take(12)}…, got $bytes bytes, ${sha256.take(12)}…); " +
                    "artefact ${artefact.id} was " +
                    "changed or damaged, install the bundle again",
            )
        }

        private fun labels(
            files: BundleFiles,
            manifest: Manifest,
        ): List<String> {
            if (manifest.task != Task.CLASSIFIER) return emptyList()
            val labels = files.text("labels.txt").removeSuffix("\n").lines()
            val count =
                manifest.outputs
                    .first()
                    .shape
                    .last()
            if (labels.size != count) {
                val message = "${files.name}/labels.txt: expected $count labels, one a line, got ${labels.size}"
                throw BundleException(BundleFault.INVALID, message)
            }
            return labels
        }
    }
}

internal fun BundleFiles.exists(path: String): Boolean =
    try {
        open(path).close()
        true
    } catch (_: FileNotFoundException) {
        false
    }

/** @throws BundleException [path] is missing or cannot be read. */
internal fun BundleFiles.bytes(path: String): ByteArray = reading(path) { it.readBytes() }

internal fun BundleFiles.text(path: String): String = bytes(path).toString(Charsets.UTF_8)

/** Raw little-endian float32; [count] of them, or any number if null. */
fun BundleFiles.floats(
    path: String,
    count: Int? = null,
): FloatArray {
    val bytes = bytes(path)
    if (bytes.size % 4 != 0 || (count != null && bytes.size != 4 * count)) {
        val expected = if (count == null) "a multiple of 4 bytes" else "${4 * count} bytes"
        throw BundleException(
            BundleFault.DAMAGED,
            "$name/$path: expected $expected, got ${bytes.size}; install it again",
        )
    }
    val values = FloatArray(bytes.size / 4)
    java.nio.ByteBuffer
        .wrap(bytes)
        .order(java.nio.ByteOrder.LITTLE_ENDIAN)
        .asFloatBuffer()
        .get(values)
    return values
}

/** Size and sha256 of a file. */
internal fun BundleFiles.digest(path: String): Pair<Long, String> =
    reading(path) { stream ->
        val digest = MessageDigest.getInstance("SHA-256")
        val block = ByteArray(1 shl 16)
        var total = 0L
        while (true) {
            val n = stream.read(block)
            if (n < 0) break
            digest.update(block, 0, n)
            total += n
        }
        total to digest.digest().hex()
    }

internal fun ByteArray.hex(): String = joinToString("") { "%02x".format(it.toInt() and 0xff) }

private fun <T> BundleFiles.reading(
    path: String,
    read: (InputStream) -> T,
): T =
    try {
        open(path).use(read)
    } catch (e: FileNotFoundException) {
        throw BundleException(
            BundleFault.MISSING,
            "$name/$path: missing; the bundle is incomplete, install it again",
            e,
        )
    } catch (e: IOException) {
        throw BundleException(BundleFault.DAMAGED, "$name/$path: cannot be read (${e.message}); install it again", e)
    }
