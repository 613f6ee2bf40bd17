import Foundation

/// golden/golden.json: what any port must reproduce.
struct Golden: Codable, Equatable, Sendable {
    public struct Stream: Codable, Equatable, Sendable {
        public let sampleRateHz: Int
        public let input: String
        public let outputs: [String: String]
        public let shape: [Int]
        public let events: [SoundEvent]

        enum CodingKeys: String, CodingKey {
            case input, outputs, shape, events
            case sampleRateHz = "sample_rate_hz"
        }
    }

    public static let mostStreams = 8  // one a rate is written
    public let streams: [Stream]
    public let decisions: Decisions?

    public init(_ bundle: ModelBundle) throws {
        let origin = "\(bundle.folder.lastPathComponent)/golden/golden.json"
        let data = try bundle.read("golden/golden.json")
        do {
            self = try JSONDecoder().decode(Golden.self, from: data)
        } catch {
            throw HearpackError.translating(error) { _ in .bundle("\(origin) cannot be read; install the bundle again") }
        }
        guard (1...Self.mostStreams).contains(streams.count) else {
            throw HearpackError.bundle("\(origin): expected 1 to \(Self.mostStreams) streams, got \(streams.count)")
        }
        for stream in streams where !Resampler.rates.contains(stream.sampleRateHz) || Manifest.elements(stream.shape) == nil {
            throw HearpackError.bundle(
                "\(origin): a stream of \(stream.sampleRateHz) Hz and shape \(stream.shape) is none; export the bundle again")
        }
        try decisions?.check(origin)
    }
}

/// What one golden stream gave.
public struct SelfCheckReport: Equatable, Sendable {
    public let sampleRateHz: Int
    public let checks: [ParityCheck]
    /// First frame of 100 ms, or first window, that leaves the tolerance; nil if none does.
    public let firstDivergence: Int?
    /// Events that the golden stream has and this one has not, or the other way round. For people; thresholds sit on
    /// slopes, so only the figures decide.
    public let eventsThatDiffer: Int
    public var passed: Bool { checks.allSatisfy(\.passed) }

    /// One line for the screen.
    public var summary: String {
        let figures = checks.map {
            "\($0.metric) \(Self.short($0.value)) (\($0.atLeast ? "at least" : "at most") \(Self.short($0.limit)))"
        }
        let place = firstDivergence.map { "; first leaves the tolerance at \($0)" } ?? ""
        return "\(sampleRateHz) Hz: \(passed ? "pass" : "FAIL"): \(figures.joined(separator: ", "))\(place)"
    }

    private static func short(_ value: Double) -> String { String(format: "%.3g", value) }
}

/// Streams golden/input through the very engine and loop the app uses, and compares the result with golden/output:
/// truth on the device, with no tools.
public enum SelfCheck {
    /// Ten seconds are too short to speak of drift (converters/bundle/golden.py leaves it out, too).
    static let longStreamMetrics: Set<String> = ["drift_db"]

    /// Runs every golden stream in ragged blocks.
    ///
    /// - Returns: a report a stream.
    /// - Throws: `bundle`, `artefact`: golden files that cannot be read, an engine that fails.
    public static func run(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, _ engine: any InferenceEngine
    ) throws -> [SelfCheckReport] {
        let golden = try Golden(bundle)
        return try golden.streams.map { try run(bundle, artefact, engine, golden, $0) }
    }

    private static func run(
        _ bundle: ModelBundle, _ artefact: Manifest.Artefact, _ engine: any InferenceEngine, _ golden: Golden,
        _ stream: Golden.Stream
    ) throws -> SelfCheckReport {
        let manifest = bundle.manifest
        guard let file = stream.outputs[manifest.outputs[0].name] else {
            throw HearpackError.bundle("golden.json has no output \(manifest.outputs[0].name); export the bundle again")
        }
        let expected = try bundle.floats(file)
        guard expected.count == Manifest.elements(stream.shape) else {
            throw HearpackError.bundle("golden/\(file): expected shape \(stream.shape), got \(expected.count) values")
        }
        let run = try StreamRun(bundle, engine, inRateHz: stream.sampleRateHz, decisions: golden.decisions)
        try run.feed(try bundle.floats(stream.input), blocks: BlockSizes.ragged(seed: 1))
        let limits = Dictionary(artefact.tolerance.map { ($0.metric, $0.limit) }, uniquingKeysWith: { first, _ in first })
        guard run.values.count == expected.count else {
            throw HearpackError.bundle(
                "golden/\(file): expected \(expected.count) values, the stream gave \(run.values.count); export the bundle again")
        }
        let metric = run.audioOut ? "snr_db" : "score_max_abs_error"
        guard limits[metric] != nil else {
            throw HearpackError.bundle("\(artefact.id): no tolerance for \(metric); export the bundle again")
        }
        let metrics: [String: Double]
        let first: Int?
        if run.audioOut {
            let lead = manifest.geometry.delaySamples
            let parity = try Parity.audio(
                expected[lead...], run.values[lead...], sampleRateHz: manifest.geometry.sampleRateHz,
                floorDb: limits["snr_db"].map { $0 - 20 } ?? -Parity.capDb)
            (metrics, first) = (parity.metrics, parity.firstBadFrame)
        } else {
            let parity = try Parity.scores(
                expected, run.values, labels: manifest.outputs[0].shape.last ?? 1,
                ceiling: limits["score_max_abs_error"] ?? .infinity)
            (metrics, first) = (parity.metrics, parity.firstBadWindow)
        }
        let checks = try Parity.judge(metrics, artefact.tolerance.filter { !longStreamMetrics.contains($0.metric) })
        func missing(_ events: [SoundEvent], in others: [SoundEvent]) -> Int {
            events.filter { event in
                !others.contains {
                    $0.label == event.label && $0.onsetSample == event.onsetSample && $0.offsetSample == event.offsetSample
                }
            }.count
        }
        return SelfCheckReport(
            sampleRateHz: stream.sampleRateHz, checks: checks, firstDivergence: checks.allSatisfy(\.passed) ? nil : first,
            eventsThatDiffer: missing(stream.events, in: run.closedEvents) + missing(run.closedEvents, in: stream.events))
    }
}

/// Sizes of successive blocks.
public enum BlockSizes: Sendable {
    case fixed(Int)
    /// Any size from 0 to 4,095, from a linear congruential generator: every language has one.
    case ragged(seed: UInt32)

    /// Calls `body` with begin and size of each block of `count` samples.
    public func each(_ count: Int, _ body: (Int, Int) throws -> Void) rethrows {
        var state: UInt32 = 0
        if case .ragged(let seed) = self { state = seed }
        var start = 0
        while start < count {
            var size: Int
            switch self {
            case .fixed(let fixed): size = fixed
            case .ragged:
                state = state &* 1_103_515_245 &+ 12_345
                size = Int((state >> 16) & 4_095)
            }
            size = min(size, count - start)
            try body(start, size)
            start += size
        }
    }
}

/// A whole clip through resampler, loop and decisions, everything kept, what is not finite too: for the self-check and
/// tests; it allocates.
public final class StreamRun {
    public private(set) var values: [Float] = []
    public private(set) var ends: [Int] = []
    public private(set) var events: [SoundEvent] = []
    public var audioOut: Bool { loop.audioOut }
    public var calls: Int { loop.calls }

    /// Finished events, by onset and then by index.
    public var closedEvents: [SoundEvent] {
        events.filter { $0.offsetSample != nil }.sorted { ($0.onsetSample, $0.index) < ($1.onsetSample, $1.index) }
    }

    private let loop: StreamLoop
    private let resampler: Resampler
    private let decisions: DecisionTracker?

    public init(
        _ bundle: ModelBundle, _ engine: any InferenceEngine, inRateHz: Int, decisions: Decisions? = nil
    ) throws {
        let manifest = bundle.manifest
        loop = try StreamLoop(manifest, engine, recover: false)
        resampler = try Resampler(inRateHz: inRateHz, outRateHz: manifest.geometry.sampleRateHz)
        if manifest.task == .classifier, let parameters = decisions ?? manifest.decisions {
            self.decisions = try DecisionTracker(
                parameters, labels: try bundle.labels(), sampleRateHz: manifest.geometry.sampleRateHz)
        } else {
            self.decisions = nil
        }
    }

    /// The clip, block by block, then a flush of the resampler and of the loop.
    public func feed(_ samples: [Float], blocks: BlockSizes) throws {
        try blocks.each(samples.count) { start, count in
            try push(try resampler.process(Array(samples[start..<start + count])))
        }
        try push(try resampler.flush())
        try loop.flush(take)
        decisions?.flush(endSample: loop.inSamples) { events.append($0) }
    }

    private func push(_ block: [Float]) throws {
        try block.withUnsafeBufferPointer { try loop.push($0, take) }
    }

    private func take(_ end: Int, _ new: UnsafeBufferPointer<Float>) throws {
        values.append(contentsOf: new)
        ends.append(end)
        try decisions?.push(new, windowEndSample: end) { events.append($0) }
    }
}
