/// Latency as a sum of named parts; the names are those of the simulator's ledger
/// (streaming/simulator/pipeline/ledger.py). Each part says how it is known: exact figures, what the system states and
/// measurements never share a column.
public struct LatencyLedger: Equatable, Sendable {
    public enum Source: String, Sendable, CaseIterable {
        /// From the geometry and the granted format.
        case exact
        /// What the system says of itself.
        case stated
        /// Measured here: the median, and the 95th percentile beside it.
        case measured
    }

    public struct Part: Equatable, Sendable {
        public let name: String
        public let ms: Double
        /// The 95th percentile where it was measured; else the same.
        public let p95Ms: Double
        public let source: Source

        public init(_ name: String, _ ms: Double, _ source: Source, p95Ms: Double? = nil) {
            self.name = name
            self.ms = ms
            self.p95Ms = p95Ms ?? ms
            self.source = source
        }
    }

    public let parts: [Part]

    /// Sum of the parts of one column: their medians and what is constant.
    public func sum(_ source: Source) -> Double { parts.filter { $0.source == source }.reduce(0) { $0 + $1.ms } }

    /// The whole: of medians, and with the 95th percentile of each measured part.
    public var totalMs: Double { parts.reduce(0) { $0 + $1.ms } }
    public var totalP95Ms: Double { parts.reduce(0) { $0 + $1.p95Ms } }

    /// What a stream's latency is made of, in the order in which a sample meets it.
    ///
    /// - Parameters:
    ///   - manifest: buffer, delay and rate of the model; a classifier's window hop.
    ///   - granted: capture as the system gave it.
    ///   - figures: what was measured; 0 before the first call.
    ///   - resamplerInMs, resamplerOutMs: group delays; `resamplerOutMs` only where sound is played.
    ///   - systemInputMs, systemOutputMs: what the system states.
    public init(
        manifest: Manifest, granted: CaptureFormat, figures: StreamFigures, resamplerInMs: Double,
        resamplerOutMs: Double? = nil, systemInputMs: Double, systemOutputMs: Double? = nil
    ) {
        let rate = Double(manifest.geometry.sampleRateHz)
        func modelMs(_ samples: Int) -> Double { 1_000.0 * Double(samples) / rate }
        func deviceMs(_ frames: Int) -> Double { 1_000.0 * Double(frames) / Double(granted.rateHz) }
        // What the device hands over in one go, as it comes; before it has come, as it was granted.
        let block =
            figures.lumpFrames > 0
            ? Part("capture_block", deviceMs(figures.lumpFrames), .measured)
            : Part("capture_block", deviceMs(granted.blockFrames ?? 0), .exact)
        // A step net waits for a buffer; the newest sample of a window waits for the next window at worst.
        var parts = [
            Part("input_route", systemInputMs, .stated),
            block,
            Part("resampler", resamplerInMs, .exact),
            Part("ring_wait", figures.waitP50Ms, .measured, p95Ms: figures.waitP95Ms),
            Part("framing", modelMs(manifest.hopSamples), .exact),
            Part("model_delay", modelMs(manifest.geometry.delaySamples), .exact),
            Part("compute", figures.computeP50Ms, .measured, p95Ms: figures.computeP95Ms),
        ]
        if let resamplerOutMs { parts.append(Part("output_resampler", resamplerOutMs, .exact)) }
        if resamplerOutMs != nil, let prefill = figures.prefillSamples {
            parts.append(Part("playout_prefill", deviceMs(prefill), .exact))
        }
        if let systemOutputMs { parts.append(Part("output_route", systemOutputMs, .stated)) }
        self.parts = parts
    }
}

/// Quantiles of durations without allocation: a histogram of 16 steps an octave, so a figure is right within 5 %.
public struct DurationHistogram: Equatable, Sendable {
    private static let perOctave = 16
    private static let octaves = 34
    private var counts = [Int32](repeating: 0, count: perOctave * octaves)
    public private(set) var total = 0

    public init() {}

    public mutating func add(_ ns: Int64) {
        let value = UInt64(max(1, ns))
        let octave = 63 - value.leadingZeroBitCount
        // The four bits below the leading one: linear within the octave.
        let step = octave >= 4 ? Int((value >> UInt64(octave - 4)) & 15) : Int((value << UInt64(4 - octave)) & 15)
        counts[min(octave * Self.perOctave + step, counts.count - 1)] += 1
        total += 1
    }

    public mutating func reset() {
        for index in counts.indices { counts[index] = 0 }
        total = 0
    }

    /// The duration that a share of all stays at or under, in milliseconds; 0 before the first.
    public func quantileMs(_ share: Double) -> Double {
        guard total > 0 else { return 0 }
        let wanted = max(1, Int((share * Double(total)).rounded(.up)))
        var seen = 0
        for (index, count) in counts.enumerated() {
            seen += Int(count)
            if seen >= wanted {
                let base = Double(UInt64(1) << UInt64(index / Self.perOctave))
                return base * (1.0 + (Double(index % Self.perOctave) + 0.5) / Double(Self.perOctave)) / 1e6
            }
        }
        return 0
    }
}
