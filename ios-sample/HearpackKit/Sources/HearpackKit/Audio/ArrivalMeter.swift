/// How capture comes: in which lumps, how late, and when a sample of the ring came. All of it is the inference thread's.
///
/// A lump is what successive callbacks bring that each come sooner after the one before than half the time their own frames
/// take; it ends when the next begins.
struct ArrivalMeter {
    private static let window = 64
    private static let capacity = 4_096

    private(set) var firstNs: Int64?
    /// When the first sample was captured, as far as the first callback tells.
    private(set) var beginNs: Int64?
    private(set) var lastNs: Int64 = 0

    private var frames: Int64 = 0  // of all callbacks
    private var current = 0
    private var lumps = [Int](repeating: 0, count: window)
    private var lumpCount = 0
    // Lateness of the lumps against the audio, in seconds: sums for its spread over the earliest.
    private var lateness = (count: 0.0, sum: 0.0, squares: 0.0, least: Double.infinity)
    private var ends = [Int](repeating: 0, count: capacity)
    private var times = [Int64](repeating: 0, count: capacity)
    private var head = 0
    private var tail = 0

    /// Frames of the largest lump of the last 64; 0 before the first callback.
    var lumpFrames: Int { max(current, lumps.max() ?? 0) }

    /// Seconds: how far the lumps spread (rms) behind the earliest.
    var jitter: Double {
        guard lateness.count > 0 else { return 0 }
        let mean = lateness.sum / lateness.count
        let squares = lateness.squares / lateness.count - 2 * lateness.least * mean + lateness.least * lateness.least
        return max(0, squares).squareRoot()
    }

    mutating func add(_ record: CallbackRecord) {
        let (count, rate) = (Int(record.frames), Double(record.rateHz))
        if firstNs == nil {
            firstNs = record.timeNs
            beginNs = record.hardwareTimeNs >= 0 ? record.hardwareTimeNs : record.timeNs - Int64(Double(count) / rate * 1e9)
        }
        if frames > 0, Double(record.timeNs - lastNs) * rate < 0.5e9 * Double(count) {
            current += count
        } else {
            if current > 0 {
                lumps[lumpCount % Self.window] = current
                lumpCount += 1
            }
            current = count
            let late = Double(record.timeNs - (firstNs ?? 0)) / 1e9 - Double(frames) / rate
            lateness = (lateness.count + 1, lateness.sum + late, lateness.squares + late * late, min(lateness.least, late))
        }
        frames += Int64(count)
        lastNs = record.timeNs
        if tail - head == Self.capacity { head += 1 }
        ends[tail % Self.capacity] = record.endPosition
        times[tail % Self.capacity] = record.timeNs
        tail += 1
    }

    /// When the callback came that brought the sample before `position`, counted as the ring counts; nil if it is not told yet.
    mutating func time(of position: Int) -> Int64? {
        while head < tail, ends[head % Self.capacity] < position { head += 1 }
        return head < tail ? times[head % Self.capacity] : nil
    }

    /// Nanoseconds until so many more frames are expected; what is overdue is asked for again after half of how late it is.
    func pauseNs(_ missing: Int, rateHz: Int, now: Int64) -> Int64 {
        let (least, most) = (Int64(1_000_000), Int64(50_000_000))
        guard tail > 0, lumpFrames > 0 else { return 5 * least }
        let lumpsMissing = (max(1, missing) + lumpFrames - 1) / lumpFrames
        let expected = lastNs + Int64(lumpsMissing) * Int64(lumpFrames) * 1_000_000_000 / Int64(rateHz)
        let wait = expected + least / 4 - now
        return min(most, max(least, wait > 0 ? wait : (now - expected) / 2))
    }
}
