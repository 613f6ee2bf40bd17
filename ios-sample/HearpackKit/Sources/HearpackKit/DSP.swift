/// The plain DSP before and after the net. (Ported when docs/dsp.md is there.)
public struct DSPStep: Codable, Equatable, Sendable {
    public let kind: String
}
