import Foundation

private let hidden: [ClosedRange<UInt32>] = [
    0x00...0x1f, 0x7f...0x9f, 0xad...0xad, 0x61c...0x61c, 0x180e...0x180e, 0x200b...0x200b, 0x200e...0x200f,
    0x2028...0x202e, 0x2060...0x206f, 0xfeff...0xfeff, 0xfff9...0xfffb, 0xe0000...0xe0fff,
]

/// Somebody else's text without anything that a screen or a log obeys or hides: such characters are shown as \\xNN or
/// \\uNNNN, as models/common/printable.py does.
///
/// - Parameter most: characters that remain; a longer text loses its middle, so that what was expected and what to do stay.
public func printable(_ text: String, most: Int = 300) -> String {
    var shown = String.UnicodeScalarView()
    for scalar in text.unicodeScalars {
        let code = scalar.value
        guard hidden.contains(where: { $0.contains(code) }) else {
            shown.append(scalar)
            continue
        }
        let format = code < 0x100 ? "\\x%02x" : code < 0x10000 ? "\\u%04x" : "\\U%08x"
        shown.append(contentsOf: String(format: format, code).unicodeScalars)
    }
    guard shown.count > most else { return String(shown) }
    let tail = most / 2
    return String(String.UnicodeScalarView(shown.prefix(most - tail - 1))) + "…"
        + String(String.UnicodeScalarView(shown.suffix(tail)))
}
