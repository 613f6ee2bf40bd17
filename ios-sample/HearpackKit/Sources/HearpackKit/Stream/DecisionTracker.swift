/// How scores become events: the manifest's `decisions`.
public struct Decisions: Codable, Equatable, Sendable {
    /// What one label overrides.
    public struct Label: Codable, Equatable, Sendable {
        public let onThreshold: Double?
        public let offThreshold: Double?
        public let minOnMs: Double?
        public let minOffMs: Double?

        enum CodingKeys: String, CodingKey {
            case onThreshold = "on_threshold"
            case offThreshold = "off_threshold"
            case minOnMs = "min_on_ms"
            case minOffMs = "min_off_ms"
        }

        static let keys = ["on_threshold", "off_threshold", "min_on_ms", "min_off_ms"]

        public init(from decoder: any Decoder) throws {
            try refuseUnknownKeys(decoder, Self.keys)
            let fields = try decoder.container(keyedBy: CodingKeys.self)
            onThreshold = try fields.decodeIfPresent(Double.self, forKey: .onThreshold)
            offThreshold = try fields.decodeIfPresent(Double.self, forKey: .offThreshold)
            minOnMs = try fields.decodeIfPresent(Double.self, forKey: .minOnMs)
            minOffMs = try fields.decodeIfPresent(Double.self, forKey: .minOffMs)
        }
    }

    public let windowHopSamples: Int
    public let smoothingWindows: Int
    public let onThreshold: Double
    public let offThreshold: Double
    public let minOnMs: Double
    public let minOffMs: Double
    public let perLabel: [String: Label]?

    enum CodingKeys: String, CodingKey {
        case windowHopSamples = "window_hop_samples"
        case smoothingWindows = "smoothing_windows"
        case onThreshold = "on_threshold"
        case offThreshold = "off_threshold"
        case minOnMs = "min_on_ms"
        case minOffMs = "min_off_ms"
        case perLabel = "per_label"
    }

    public init(from decoder: any Decoder) throws {
        try refuseUnknownKeys(decoder, ["window_hop_samples", "smoothing_windows"] + Label.keys + ["per_label"])
        let fields = try decoder.container(keyedBy: CodingKeys.self)
        windowHopSamples = try fields.decode(Int.self, forKey: .windowHopSamples)
        smoothingWindows = try fields.decodeIfPresent(Int.self, forKey: .smoothingWindows) ?? 1
        onThreshold = try fields.decodeIfPresent(Double.self, forKey: .onThreshold) ?? 0.5
        offThreshold = try fields.decodeIfPresent(Double.self, forKey: .offThreshold) ?? 0.3
        minOnMs = try fields.decodeIfPresent(Double.self, forKey: .minOnMs) ?? 0
        minOffMs = try fields.decodeIfPresent(Double.self, forKey: .minOffMs) ?? 0
        perLabel = try fields.decodeIfPresent([String: Label].self, forKey: .perLabel)
    }

    /// - Throws: `bundle`: a hop or depth under 1, a figure that is not finite, or an off threshold above its on threshold.
    func check(_ origin: String) throws {
        guard (1...Manifest.mostSamples).contains(windowHopSamples), (1...10_000).contains(smoothingWindows) else {
            throw HearpackError.bundle(
                "\(origin): decisions: hop and smoothing_windows must be at least 1, the latter at most 10000, got "
                    + "\(windowHopSamples) and \(smoothingWindows)")
        }
        for name in [nil] + (perLabel ?? [:]).keys.sorted().map(Optional.some) {
            let rule = self.rule(name, sampleRateHz: 1_000)
            let place = name.map { "decisions of \($0)" } ?? "decisions"
            let (share, duration) = (0.0...1.0, 0.0...3_600_000.0)  // at 1,000 Hz a sample is a millisecond
            guard share.contains(rule.onThreshold), share.contains(rule.offThreshold),
                duration.contains(rule.minOnSamples), duration.contains(rule.minOffSamples)
            else {
                throw HearpackError.bundle(
                    "\(origin): \(place): thresholds must be finite, 0 to 1, and durations 0 to 3600000 ms")
            }
            guard rule.offThreshold <= rule.onThreshold else {
                throw HearpackError.bundle(
                    "\(origin): \(place): off_threshold \(rule.offThreshold) is above on_threshold \(rule.onThreshold)")
            }
        }
    }

    /// The rule of one label, durations in samples.
    func rule(_ label: String?, sampleRateHz: Int) -> LabelRule {
        let custom = label.flatMap { perLabel?[$0] }
        return LabelRule(
            onThreshold: custom?.onThreshold ?? onThreshold,
            offThreshold: custom?.offThreshold ?? offThreshold,
            minOnSamples: (custom?.minOnMs ?? minOnMs) * Double(sampleRateHz) / 1_000.0,
            minOffSamples: (custom?.minOffMs ?? minOffMs) * Double(sampleRateHz) / 1_000.0)
    }
}

/// What decides about one label.
struct LabelRule: Equatable, Sendable {
    let onThreshold: Double
    let offThreshold: Double
    let minOnSamples: Double
    let minOffSamples: Double
}

/// A sound was detected. Emitted twice: when it turns on (no offset yet) and when it is over.
public struct SoundEvent: Codable, Equatable, Sendable {
    public let label: String
    /// Index in labels.txt.
    public let index: Int
    /// Begin, at the model's rate, counted from the stream's begin.
    public let onsetSample: Int
    /// End; nil while it lasts.
    public let offsetSample: Int?
    /// Largest smoothed score so far.
    public let confidence: Double
    /// End of the window that made us say so; for people, no part of the event's identity.
    public let emittedAtSample: Int?
    /// Where the stretch that it was heard in begins: later than 0 once the audio was opened again in mid-stream.
    public private(set) var stretchBegin = 0

    public init(
        label: String, index: Int, onsetSample: Int, offsetSample: Int?, confidence: Double, emittedAtSample: Int? = nil
    ) {
        self.label = label
        self.index = index
        self.onsetSample = onsetSample
        self.offsetSample = offsetSample
        self.confidence = confidence
        self.emittedAtSample = emittedAtSample
    }

    enum CodingKeys: String, CodingKey {
        case label, index, confidence
        case onsetSample = "onset_sample"
        case offsetSample = "offset_sample"
        case emittedAtSample = "emitted_at_sample"
    }

    /// The same event in a stretch that begins so much later.
    func shifted(by samples: Int) -> SoundEvent {
        guard samples != 0 else { return self }
        var event = SoundEvent(
            label: label, index: index, onsetSample: onsetSample + samples, offsetSample: offsetSample.map { $0 + samples },
            confidence: confidence, emittedAtSample: emittedAtSample.map { $0 + samples })
        event.stretchBegin = stretchBegin + samples
        return event
    }

    /// Whether two events are identical: label, onset and offset equal, confidence within 1e-6.
    public func isSame(_ other: SoundEvent) -> Bool {
        label == other.label && onsetSample == other.onsetSample && offsetSample == other.offsetSample
            && abs(confidence - other.confidence) <= 1e-6
    }
}

/// Scores of successive windows into events: streaming/core/decisions.py, comparison by comparison, all in float64.
///
/// No allocation while no event is emitted.
public final class DecisionTracker {
    public let labels: [String]

    private let hop: Int
    private let depth: Int
    private let rules: [LabelRule]
    private var recent: [Double]
    private var smoothed: [Double]
    private var tracks: [Track?]
    private var windows = 0
    private var end: Int?
    private var ended = false

    private struct Track {
        var onset: Int
        var lastOver: Int
        var peak: Double
        var on = false
    }

    /// - Throws: `bundle` where `per_label` names a label there is not; `usage` without labels.
    public init(_ parameters: Decisions, labels: [String], sampleRateHz: Int) throws {
        guard !labels.isEmpty else { throw HearpackError.usage("decisions need at least one label, got none") }
        try parameters.check("decisions")
        let names = Set(labels)
        for name in (parameters.perLabel ?? [:]).keys.sorted() where !names.contains(name) {
            throw HearpackError.bundle("decisions: per_label names \(name), which is no label of this bundle")
        }
        self.labels = labels
        hop = parameters.windowHopSamples
        depth = parameters.smoothingWindows
        rules = labels.map { parameters.rule($0, sampleRateHz: sampleRateHz) }
        recent = [Double](repeating: 0, count: depth * labels.count)
        smoothed = [Double](repeating: 0, count: labels.count)
        tracks = [Track?](repeating: nil, count: labels.count)
    }

    /// Begin a new stream: nothing is on, no score is remembered.
    public func reset() {
        windows = 0
        end = nil
        ended = false
        for index in tracks.indices { tracks[index] = nil }
    }

    /// Take in one window's scores.
    ///
    /// - Parameters:
    ///   - scores: one for each label.
    ///   - windowEndSample: the window's end at the model's rate, counted from reset; rising.
    ///   - emit: called for what turned on or off with this window, by index.
    /// - Throws: `usage`: wrong number of scores, a window that does not follow the last, or a flushed stream.
    public func push(
        _ scores: UnsafeBufferPointer<Float>, windowEndSample: Int, _ emit: (SoundEvent) -> Void
    ) throws {
        guard !ended else {
            throw HearpackError.usage("decisions: the stream was flushed; call reset() before the next window")
        }
        guard scores.count == labels.count else {
            throw HearpackError.usage("decisions: expected \(labels.count) scores, got \(scores.count)")
        }
        if let end, windowEndSample <= end {
            throw HearpackError.usage(
                "decisions: a window that ends at \(windowEndSample) cannot follow one that ends at \(end)")
        }
        end = windowEndSample
        smooth(scores)
        for index in 0..<labels.count {
            let s = smoothed[index]
            if tracks[index] != nil || s >= rules[index].onThreshold { advance(index, s, windowEndSample, emit) }
        }
    }

    /// The stream is over: close what is on. A run that has not lasted long enough is no event.
    public func flush(endSample: Int, _ emit: (SoundEvent) -> Void) {
        ended = true
        for index in 0..<labels.count {
            if let track = tracks[index], track.on { emit(closed(index, track, endSample)) }
            tracks[index] = nil
        }
    }

    private func smooth(_ scores: UnsafeBufferPointer<Float>) {
        let count = labels.count
        let slot = windows % depth * count
        for i in 0..<count { recent[slot + i] = Double(scores[i]) }
        windows += 1
        let held = min(windows, depth)
        for i in 0..<count { smoothed[i] = 0 }
        for window in windows - held..<windows {
            let row = window % depth * count
            for i in 0..<count { smoothed[i] += recent[row + i] }
        }
        for i in 0..<count { smoothed[i] /= Double(held) }
    }

    private func advance(_ index: Int, _ s: Double, _ end: Int, _ emit: (SoundEvent) -> Void) {
        let rule = rules[index]
        if var track = tracks[index], track.on {
            if s >= rule.offThreshold {
                track.lastOver = end
                track.peak = max(track.peak, s)
                tracks[index] = track
            } else if Double(end - track.lastOver) >= rule.minOffSamples {
                tracks[index] = nil
                emit(closed(index, track, end))
            }
            return
        }
        guard s >= rule.onThreshold else {  // NaN ends a run too
            tracks[index] = nil
            return
        }
        var track = tracks[index] ?? Track(onset: end - hop, lastOver: end, peak: s)
        track.lastOver = end
        track.peak = max(track.peak, s)
        if Double(end - track.onset) >= rule.minOnSamples {
            track.on = true
            emit(
                SoundEvent(
                    label: labels[index], index: index, onsetSample: track.onset, offsetSample: nil,
                    confidence: track.peak, emittedAtSample: end))
        }
        tracks[index] = track
    }

    private func closed(_ index: Int, _ track: Track, _ at: Int) -> SoundEvent {
        SoundEvent(
            label: labels[index], index: index, onsetSample: track.onset, offsetSample: track.lastOver - hop,
            confidence: track.peak, emittedAtSample: at)
    }
}
