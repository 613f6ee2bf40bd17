import Foundation
import HearpackKit

/// A sentence in the user's language, by its English words (Localizable.strings).
func say(_ key: String, _ arguments: String...) -> String {
    var text = Bundle.main.localizedString(forKey: key, value: key, table: nil)
    for argument in arguments {
        guard let mark = text.range(of: "%@") else { break }
        text.replaceSubrange(mark, with: argument)
    }
    return text
}

extension HearpackText {
    /// The sentence in the user's language.
    var said: String { text(Bundle.main.localizedString(forKey: key, value: key, table: nil)) }
}

/// Figures as text.
enum Figure {
    static func percent(_ share: Float) -> String { String(format: "%.0f %%", share * 100) }
    static func decibels(_ db: Double) -> String { db.isFinite ? String(format: "%.0f dBFS", db) : say("silence") }
    static func ms(_ ms: Double) -> String { String(format: "%.1f ms", ms) }
    static func seconds(_ seconds: Double) -> String { String(format: "%.2f s", seconds) }
}
