package hearpack.core.bundle

private const val LONGEST_MESSAGE = 300

private val HIDDEN =
    listOf(
        0x00..0x1f,
        0x7f..0x9f,
        0xad..0xad,
        0x61c..0x61c,
        0x180e..0x180e,
        0x200b..0x200b,
        0x200e..0x200f,
        0x2028..0x202e,
        0x2060..0x206f,
        0xd800..0xdfff,
        0xfeff..0xfeff,
        0xfff9..0xfffb,
        0xe0000..0xe0fff,
    )

/**
 * Somebody else's text without anything that a screen or a log obeys or hides: such characters are shown as \\xNN or
 * \\uNNNN, as models/common/printable.py does.
 *
 * @param most characters that remain; a longer text loses its middle, so that what was expected and what to do stay.
 */
fun printable(
    text: String,
    most: Int = LONGEST_MESSAGE,
): String {
    val shown = StringBuilder()
    for (code in text.codePoints().toArray()) {
        when {
            HIDDEN.none { code in it } -> shown.appendCodePoint(code)
            code < 0x100 -> shown.append("\\x%02x".format(code))
            code < 0x10000 -> shown.append("\\u%04x".format(code))
            else -> shown.append("\\U%08x".format(code))
        }
    }
    val points = shown.codePoints().toArray()
    if (points.size <= most) return shown.toString()
    val tail = most / 2
    val head = most - tail - 1
    return String(points, 0, head) + "…" + String(points, points.size - tail, tail)
}
