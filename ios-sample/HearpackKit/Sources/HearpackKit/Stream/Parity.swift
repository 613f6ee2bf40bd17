import Foundation

/// A figure beside its tolerance: never only a bool.
public struct ParityCheck: Equatable, Sendable {
    public let metric: String
    public let value: Double
    public let limit: Double
    public let atLeast: Bool
    public var passed: Bool { atLeast ? value >= limit : size <= limit }

    /// Drift is judged by its size: getting better is drift as well.
    private var size: Double { metric == "drift_db" ? abs(value) : value }
}

/// The figures of streaming/metrics/parity.py that a manifest's tolerance may name, on what the app can compare.
public enum Parity {
    static let capDb = 200.0
    static let frameS = 0.1
    static let endsS = 10.0
    static let clearMargin = 0.01
    static let lowerLimits: Set<String> = ["snr_db", "worst_frame_snr_db", "top5_agreement"]

    /// 10 log10(signal / error) of two energies, within +-200.
    static func ratioDb(_ signal: Double, _ error: Double) -> Double {
        guard signal.isFinite, error.isFinite else { return -capDb }
        guard error > 0 else { return capDb }
        guard signal > 0 else { return -capDb }
        return min(capDb, max(-capDb, 10.0 * (log10(signal) - log10(error))))
    }

    public struct Audio: Equatable, Sendable {
        public let metrics: [String: Double]
        /// First 100 ms frame, among those within 60 dB of the loudest, that is under the limit asked for.
        public let firstBadFrame: Int?
    }

    /// Compare two aligned signals of one length; `floorDb` is what a frame must reach.
    public static func audio(
        _ reference: ArraySlice<Float>, _ candidate: ArraySlice<Float>, sampleRateHz: Int, floorDb: Double
    ) throws -> Audio {
        guard reference.count == candidate.count, !reference.isEmpty else {
            throw HearpackError.usage("parity: expected two signals of one length, got \(reference.count) and \(candidate.count)")
        }
        let size = max(1, Int((frameS * Double(sampleRateHz)).rounded()))
        var signal: [Double] = []
        var error: [Double] = []
        var power: [Double] = []
        var bad = 0
        let a = Array(reference)
        let b = Array(candidate)
        for start in stride(from: 0, to: a.count, by: size) {
            let end = min(a.count, start + size)
            var (s, e) = (0.0, 0.0)
            for i in start..<end {
                let (x, y) = (Double(a[i]), Double(b[i]))
                if x.isFinite { s += x * x }
                if x.isFinite && y.isFinite {
                    e += (y - x) * (y - x)
                } else {
                    bad += 1
                    e = .infinity
                }
            }
            signal.append(s)
            error.append(e)
            power.append(s / Double(end - start))
        }
        let loudest = power.max() ?? 0
        let active = power.indices.filter { power[$0] >= loudest * 1e-6 }
        let begin = active[0] * size
        let end = min(a.count, active[active.count - 1] * size + size)
        let length = min(Int(endsS * Double(sampleRateHz)), max(1, (end - begin) / 2))
        func snr(_ range: Range<Int>) -> Double {
            var (s, e) = (0.0, 0.0)
            for i in range {
                let (x, y) = (Double(a[i]), Double(b[i]))
                s += x.isFinite ? x * x : 0
                e += x.isFinite && y.isFinite ? (y - x) * (y - x) : .infinity
            }
            return ratioDb(s, e)
        }
        let whole = ratioDb(signal.reduce(0, +), error.reduce(0, +))
        let drift = snr(begin..<begin + length) - snr(end - length..<end)
        let ratios = active.map { ratioDb(signal[$0], error[$0]) }
        return Audio(
            metrics: [
                "snr_db": whole, "drift_db": drift, "nan_count": Double(bad), "worst_frame_snr_db": ratios.min() ?? capDb,
            ],
            firstBadFrame: active.indices.first { ratios[$0] < floorDb }.map { active[$0] })
    }

    public struct Scores: Equatable, Sendable {
        public let metrics: [String: Double]
        /// First window with a score farther off than the limit asked for.
        public let firstBadWindow: Int?
    }

    /// Compare the scores of the same windows, [windows x labels]; `ceiling` is the largest error a window may have.
    public static func scores(_ reference: [Float], _ candidate: [Float], labels: Int, ceiling: Double) throws -> Scores {
        guard reference.count == candidate.count, labels > 0, reference.count % labels == 0, !reference.isEmpty else {
            throw HearpackError.usage(
                "parity: expected two tables of \(labels) scores per window, got \(reference.count) and \(candidate.count)")
        }
        let windows = reference.count / labels
        let top = min(5, labels)
        var (largest, bad, same, clearFlips) = (0.0, 0, 0, 0)
        var first: Int?
        for window in 0..<windows {
            let a = Array(reference[window * labels..<(window + 1) * labels])
            let b = Array(candidate[window * labels..<(window + 1) * labels])
            var worst = 0.0
            var broken = false
            for i in 0..<labels {
                if a[i].isFinite && b[i].isFinite {
                    worst = max(worst, abs(Double(b[i]) - Double(a[i])))
                } else {
                    bad += 1
                    broken = true
                }
            }
            largest = max(largest, worst)
            if first == nil && (broken || worst > ceiling) { first = window }
            let best = ranking(a)
            let agrees = Set(best.prefix(top)) == Set(ranking(b).prefix(top)) && !broken
            let clear = labels > top && Double(a[best[top - 1]]) - Double(a[best[top]]) > clearMargin
            same += agrees ? 1 : 0
            clearFlips += !agrees && (clear || broken) ? 1 : 0
        }
        return Scores(
            metrics: [
                "score_max_abs_error": largest, "nan_count": Double(bad),
                "top5_agreement": Double(same) / Double(windows), "top5_clear_flips": Double(clearFlips),
            ],
            firstBadWindow: first)
    }

    /// Label indices from best to worst; ties by index.
    private static func ranking(_ scores: [Float]) -> [Int] {
        scores.indices.sorted { scores[$0] != scores[$1] ? scores[$0] > scores[$1] : $0 < $1 }
    }

    /// Compare figures with tolerances.
    ///
    /// - Throws: `bundle`: a metric that this app does not measure.
    public static func judge(_ metrics: [String: Double], _ tolerances: [Manifest.Tolerance]) throws -> [ParityCheck] {
        try tolerances.map { tolerance in
            guard let value = metrics[tolerance.metric] else {
                throw HearpackError.bundle(
                    "tolerance: \(tolerance.metric) is not measured here; measured: "
                        + metrics.keys.sorted().joined(separator: ", "))
            }
            return ParityCheck(
                metric: tolerance.metric, value: value, limit: tolerance.limit,
                atLeast: lowerLimits.contains(tolerance.metric))
        }
    }
}
