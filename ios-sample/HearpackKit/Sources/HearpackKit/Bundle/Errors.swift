/// Everything the kit raises on purpose. A message says what was expected, what came, and what to do.
///
///     HearpackError
///     ├── usage         an argument is wrong: a bug in the calling app
///     ├── audio         a stream is not usable (NaN, a route that cannot feed the model)
///     ├── bundle        a bundle is missing, invalid, newer, or does not match its hashes
///     ├── artefact      an exported file cannot be compiled, loaded or run
///     ├── permission    the user, or a policy, keeps the microphone
///     └── output        a result cannot be written
public enum HearpackError: Error, Equatable, Sendable {
    case usage(String)
    case audio(String)
    case bundle(String)
    case artefact(String)
    case permission(String)
    case output(String)

    /// The one line that a screen or a log shows, in harmless characters: names in it may be somebody else's.
    public var message: String {
        switch self {
        case .usage(let text), .audio(let text), .bundle(let text), .artefact(let text), .permission(let text),
            .output(let text):
            return printable(text)
        }
    }
}

extension HearpackError: CustomStringConvertible {
    public var description: String { message }

    /// Errors of Foundation, Core ML or AVFoundation as one line of ours; our own pass unchanged.
    public static func translating(_ error: any Error, _ wrap: (String) -> HearpackError) -> HearpackError {
        if let ours = error as? HearpackError { return ours }
        let text = String(describing: error).split(separator: "\n").first.map(String.init) ?? "unknown error"
        return wrap(text)
    }
}
