/// A sentence for people: English words as its key, and what stands where each %@ is. The app looks the key up in its
/// Localizable.strings; where there is none the English is shown.
public struct HearpackText: Equatable, Sendable {
    public let key: String
    public let arguments: [String]

    public static let none = HearpackText("")

    public init(_ key: String, _ arguments: String...) {
        self.key = key
        self.arguments = arguments
    }

    public var isEmpty: Bool { key.isEmpty }

    public var english: String { text(key) }

    /// The sentence in a language.
    ///
    /// - Parameter format: the key's translation, with each %@ of the key, numbered (%1$@) where their order differs.
    public func text(_ format: String) -> String {
        var result = ""
        var rest = Substring(format)
        var next = 0
        while let mark = rest.firstIndex(of: "%") {
            result += rest[..<mark]
            rest = rest[mark...].dropFirst()
            let digits = rest.prefix { $0.isNumber }
            let numbered = rest.dropFirst(digits.count)
            if let number = Int(digits), numbered.hasPrefix("$@"), arguments.indices.contains(number - 1) {
                result += arguments[number - 1]
                rest = numbered.dropFirst(2)
            } else if rest.first == "@", arguments.indices.contains(next) {
                result += arguments[next]
                rest = rest.dropFirst()
                next += 1
            } else {
                result += "%"
            }
        }
        return result + rest
    }
}
