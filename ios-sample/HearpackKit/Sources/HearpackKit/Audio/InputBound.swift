/// NaN and infinities become 0, what lies beyond +-4.0 becomes +-4.0; both are counted. The rule of
/// streaming/core/bound.py: for what the device gives, and again for what the net is given.
public struct InputBound: Equatable, Sendable {
    /// What a net may be given at most: the resampler's saturation, 12 dB over full scale.
    public static let limit: Float = 4

    private static let limitBits = limit.bitPattern
    private static let infinityBits = Float.infinity.bitPattern

    /// Samples that were no numbers.
    public private(set) var nanSamples = 0
    /// Samples that were limited.
    public private(set) var limitedSamples = 0

    public init() {}

    /// In place.
    public mutating func process(_ block: SampleBlock) {
        guard Self.largestBits(UnsafeBufferPointer(block)) > Self.limitBits else { return }
        for i in block.indices {
            let bits = block[i].magnitude.bitPattern
            if bits >= Self.infinityBits {
                nanSamples += 1
                block[i] = 0
            } else if bits > Self.limitBits {
                limitedSamples += 1
                block[i] = block[i] < 0 ? -Self.limit : Self.limit
            }
        }
    }

    /// Whether no value is NaN or infinite.
    static func allFinite(_ values: UnsafeBufferPointer<Float>) -> Bool { largestBits(values) < infinityBits }

    /// The largest magnitude as bits without sign: NaN and infinity lie above every number.
    private static func largestBits(_ values: UnsafeBufferPointer<Float>) -> UInt32 {
        var largest: UInt32 = 0
        for value in values { largest = max(largest, value.bitPattern & 0x7fff_ffff) }
        return largest
    }
}
