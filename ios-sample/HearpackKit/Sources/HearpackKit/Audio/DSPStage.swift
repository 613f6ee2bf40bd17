/// The manifest's `dsp`: the plain signal processing around the net (docs/dsp.md).
///
/// Stages stand once each, in this order. A kind or a field that is not known is refused: leaving it out would change
/// what is heard.
public enum DSPStage: Decodable, Equatable, Sendable {
    case highpass(cutoffHz: Double)
    case gain(db: Double)
    case gate(thresholdDbfs: Double, holdWindows: Int)
    case wetDry(attenuationLimitDb: Double)
    case limiter(ceilingDbfs: Double, releaseMs: Double)

    private struct Key: CodingKey {
        let stringValue: String
        let intValue: Int? = nil
        init?(stringValue: String) { self.stringValue = stringValue }
        init?(intValue: Int) { nil }
        init(_ name: String) { stringValue = name }
    }

    static let order = ["highpass", "gain", "gate", "wet_dry", "limiter"]

    public init(from decoder: any Decoder) throws {
        let fields = try decoder.container(keyedBy: Key.self)
        let kind = try fields.decode(String.self, forKey: Key("kind"))
        var known: Set<String> = ["kind"]
        func number(_ name: String, _ range: ClosedRange<Double>) throws -> Double {
            known.insert(name)
            let value = try fields.decode(Double.self, forKey: Key(name))
            guard range.contains(value) else {
                throw HearpackError.bundle(
                    "dsp: \(name) of \(kind) must be \(range.lowerBound) to \(range.upperBound), got \(value)")
            }
            return value
        }
        switch kind {
        case "highpass": self = .highpass(cutoffHz: try number("cutoff_hz", 1...20_000))
        case "gain": self = .gain(db: try number("gain_db", -60...40))
        case "gate":
            let threshold = try number("threshold_dbfs", -120...0)
            known.insert("hold_windows")
            let hold = try fields.decodeIfPresent(Int.self, forKey: Key("hold_windows")) ?? 0
            guard (0...1_000).contains(hold) else {
                throw HearpackError.bundle("dsp: hold_windows of gate must be 0 to 1000, got \(hold)")
            }
            self = .gate(thresholdDbfs: threshold, holdWindows: hold)
        case "wet_dry": self = .wetDry(attenuationLimitDb: try number("attenuation_limit_db", 0...120))
        case "limiter":
            self = .limiter(
                ceilingDbfs: try number("ceiling_dbfs", -60...0), releaseMs: try number("release_ms", 1...10_000))
        default:
            throw HearpackError.bundle(
                "dsp: this app does not know the stage \(kind) (it knows \(Self.order.joined(separator: ", "))); update the app")
        }
        let unknown = fields.allKeys.map(\.stringValue).filter { !known.contains($0) }.sorted()
        guard unknown.isEmpty else {
            throw HearpackError.bundle(
                "dsp: \(kind) has fields this app does not know: \(unknown.joined(separator: ", ")); update the app")
        }
    }

    var kind: String {
        switch self {
        case .highpass: return "highpass"
        case .gain: return "gain"
        case .gate: return "gate"
        case .wetDry: return "wet_dry"
        case .limiter: return "limiter"
        }
    }

    /// - Throws: `bundle` where stages do not suit the model.
    static func check(_ stages: [DSPStage], _ manifest: Manifest) throws {
        let kinds = stages.map(\.kind)
        guard kinds == order.filter(kinds.contains) else {
            throw HearpackError.bundle(
                "dsp: stages stand once each and in this order: \(order.joined(separator: ", ")); got \(kinds.joined(separator: ", "))"
            )
        }
        for stage in stages {
            switch stage {
            case .gate where manifest.task != .classifier || manifest.buffer.kind != .window:
                throw HearpackError.bundle(
                    "dsp: a gate is for windowed classifiers; a net with state has to hear the silence too")
            case .wetDry, .limiter:
                guard manifest.task == .enhancer else {
                    throw HearpackError.bundle(
                        "dsp: \(stage.kind) works on an enhancer's output, this is a \(manifest.task.rawValue)")
                }
            case .highpass(let cutoff) where cutoff > 0.45 * Double(manifest.geometry.sampleRateHz):
                throw HearpackError.bundle(
                    "dsp: cutoff_hz \(cutoff) is above 0.45 of the rate of \(manifest.geometry.sampleRateHz) Hz")
            default: break
            }
        }
    }
}
