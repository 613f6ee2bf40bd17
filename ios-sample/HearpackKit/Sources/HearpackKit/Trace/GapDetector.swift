/// Notices audio that is missing: by the clock more frames must have come than did.
///
/// Callbacks lag the microphone by a more or less constant number of frames. When the lag has lain above its baseline by
/// more than the system can hold for 100 ms and more than 8 callbacks, that much was dropped: what was only late would have
/// come by then. The baseline may rise by 500 ppm, so that a slow microphone loses nothing.
public struct GapDetector: Equatable, Sendable {
    private static let patience = 8
    private static let patienceNs: Int64 = 100_000_000
    private static let risePpm: Int64 = 500

    private let rateHz: Int64
    private let bufferFrames: Int64
    private var begin: Int64?
    private var frames: Int64 = 0
    private var baseline = Int64.max
    private var risen: Int64 = 0  // millionths of a frame
    private var late = 0
    private var lateSince: Int64 = 0
    private var smallest = Int64.max

    /// - Parameter bufferFrames: what may be late without being lost.
    public init(rateHz: Int, bufferFrames: Int) {
        self.rateHz = Int64(rateHz)
        self.bufferFrames = Int64(bufferFrames)
    }

    /// What may be late: four blocks, and at least 50 ms.
    public static func buffer(block: Int, rateHz: Int) -> Int { max(4 * block, rateHz / 20) }

    /// A callback brought `count` frames at `timeNs`.
    ///
    /// - Returns: frames that are missing, noticed with it; mostly 0.
    public mutating func read(_ timeNs: Int64, _ count: Int) -> Int {
        let begin = self.begin ?? timeNs
        self.begin = begin
        frames += Int64(count)
        let lag = (timeNs - begin) / 1_000 * rateHz / 1_000_000 - frames
        if baseline < .max {
            risen += Int64(count) * Self.risePpm
            baseline += risen / 1_000_000
            risen %= 1_000_000
        }
        baseline = min(baseline, lag)
        if lag - baseline <= bufferFrames {
            (late, smallest) = (0, .max)
            return 0
        }
        smallest = min(smallest, lag)
        if late == 0 { lateSince = timeNs }
        late += 1
        if late <= Self.patience || timeNs - lateSince < Self.patienceNs { return 0 }
        let missing = smallest - baseline
        (baseline, late, smallest) = (smallest, 0, .max)
        return Int(missing)
    }
}
