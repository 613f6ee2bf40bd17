package hearpack.core.bundle

import java.io.ByteArrayOutputStream
import java.io.FileNotFoundException
import java.io.IOException
import java.io.InputStream
import java.nio.ByteBuffer
import java.nio.charset.CharacterCodingException

/*
 * The one gate for the paths of a bundle, as runtimes/bundle/paths.py has it: a bundle is somebody else's data, and
 * nothing of it is opened by a path that did not come through here, or read beyond its bound.
 */

/** Read whole into memory. */
internal const val LARGEST_READ = 256L * 1024 * 1024
internal const val LARGEST_MANIFEST = 16L * 1024 * 1024

/** Handed to LiteRT by its path. */
internal const val LARGEST_FILE = 8L * 1024 * 1024 * 1024

private const val LONGEST_PATH = 1024
private val NAME = Regex("[A-Za-z0-9_][A-Za-z0-9_.-]{0,127}")

// Control characters, halves of surrogate pairs; the slash of Windows; a drive, or a stream of NTFS.
private val FORBIDDEN = Regex("[\\x00-\\x1f\\x7f-\\x9f\\\\:\\p{Cs}]")

/** Whether a path relative to a bundle's folder stays inside it: names with "/" between them. */
fun isInside(path: String): Boolean =
    path.length <= LONGEST_PATH && !FORBIDDEN.containsMatchIn(path) &&
        path.split("/").none { it == "" || it == "." || it == ".." }

/** Whether files, folders and tensors may be called so: one part of a path, the same on every system. */
fun isName(name: String): Boolean = NAME.matches(name)

/** Whether there is such a file; BundleException where the gate refuses it. */
internal fun BundleFiles.exists(path: String): Boolean =
    try {
        reading(path) { true }
    } catch (e: BundleException) {
        if (e.fault != BundleFault.MISSING) throw e
        false
    }

/** @throws BundleException [path] leaves the bundle, is missing, too large, or cannot be read. */
internal fun BundleFiles.bytes(
    path: String,
    most: Long = LARGEST_READ,
): ByteArray =
    reading(path) { stream ->
        val kept = ByteArrayOutputStream()
        stream.each(path, minOf(most, LARGEST_READ)) { block, n -> kept.write(block, 0, n) }
        kept.toByteArray()
    }

/** @throws BundleException as [bytes], or it is not UTF-8. */
internal fun BundleFiles.text(
    path: String,
    most: Long = LARGEST_READ,
): String = utf8(bytes(path, most), path)

internal fun BundleFiles.utf8(
    bytes: ByteArray,
    path: String,
): String =
    try {
        Charsets.UTF_8
            .newDecoder()
            .decode(ByteBuffer.wrap(bytes))
            .toString()
    } catch (e: CharacterCodingException) {
        throw BundleException(BundleFault.INVALID, "$name/$path: not UTF-8 text; install the bundle again", e)
    }

/** Raw little-endian float32; [count] of them, or any number if null. */
fun BundleFiles.floats(
    path: String,
    count: Int? = null,
): FloatArray = floats(bytes(path), path, count)

internal fun BundleFiles.floats(
    bytes: ByteArray,
    path: String,
    count: Int?,
): FloatArray {
    if (bytes.size % 4 != 0 || (count != null && bytes.size.toLong() != 4L * count)) {
        val expected = if (count == null) "a multiple of 4 bytes" else "${4L * count} bytes"
        val message = "$name/$path: expected $expected, got ${bytes.size}; install it again"
        throw BundleException(BundleFault.DAMAGED, message)
    }
    val values = FloatArray(bytes.size / 4)
    ByteBuffer
        .wrap(bytes)
        .order(java.nio.ByteOrder.LITTLE_ENDIAN)
        .asFloatBuffer()
        .get(values)
    return values
}

/** Reads to the end, at most [most] bytes. */
internal fun InputStream.each(
    path: String,
    most: Long,
    body: (ByteArray, Int) -> Unit,
) {
    val block = ByteArray(1 shl 16)
    var total = 0L
    while (true) {
        val n = read(block)
        if (n < 0) return
        total += n
        if (total > most) throw IOException("$path has more than $most bytes")
        body(block, n)
    }
}

internal fun <T> BundleFiles.reading(
    path: String,
    read: (InputStream) -> T,
): T {
    if (!isInside(path)) {
        throw BundleException(
            BundleFault.INVALID,
            "$name: path '$path' does not stay inside the bundle; export it again",
        )
    }
    return try {
        open(path).use(read)
    } catch (e: FileNotFoundException) {
        val message = "$name/$path: missing; the bundle is incomplete, install it again"
        throw BundleException(BundleFault.MISSING, message, e)
    } catch (e: IOException) {
        throw BundleException(BundleFault.DAMAGED, "$name/$path: cannot be read (${e.message}); install it again", e)
    }
}
