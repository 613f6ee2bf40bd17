/// The last seconds of an enhancer's input and output, aligned, at the model's rate. Written by the inference thread without
/// allocation; read when it has let go.
public final class ABRecording {
    public let sampleRateHz: Int
    private let most: Int
    private let delay: Int
    private var original: Ring
    private var enhanced: Ring

    private struct Ring {
        var samples: [Float]
        var count = 0

        /// Positions before 0 are skipped: `count` may begin below it.
        mutating func add(_ block: UnsafeBufferPointer<Float>) {
            for value in block {
                if count >= 0 { samples[count % samples.count] = value }
                count += 1
            }
        }

        func read(_ range: Range<Int>) -> [Float] { range.map { samples[$0 % samples.count] } }
    }

    /// - Parameters:
    ///   - manifest: an enhancer's: its rate, and its delay, which is taken out.
    ///   - seconds: how much is kept.
    public init(_ manifest: Manifest, seconds: Int = 30) {
        sampleRateHz = manifest.geometry.sampleRateHz
        most = seconds * sampleRateHz
        delay = manifest.geometry.delaySamples
        // The input runs ahead of the output by the delay, a buffer, and what one push brings.
        let ahead = delay + manifest.buffer.samples + sampleRateHz
        original = Ring(samples: [Float](repeating: 0, count: most + ahead))
        enhanced = Ring(samples: [Float](repeating: 0, count: most), count: -delay)
    }

    /// Samples there are of both.
    public var count: Int { min(most, max(0, min(original.count, enhanced.count))) }

    func addOriginal(_ block: UnsafeBufferPointer<Float>) { original.add(block) }

    func addEnhanced(_ block: UnsafeBufferPointer<Float>) { enhanced.add(block) }

    /// A stretch that does not join the one before begins: only one that joins can be compared.
    func reset() {
        original.count = 0
        enhanced.count = -delay
    }

    /// Both, sample by sample beside each other; empty before the first output.
    public func clip() -> (original: [Float], enhanced: [Float]) {
        let end = max(0, min(original.count, enhanced.count))
        return (original.read(end - count..<end), enhanced.read(end - count..<end))
    }
}
