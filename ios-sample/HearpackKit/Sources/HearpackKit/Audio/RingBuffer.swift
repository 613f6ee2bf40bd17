import CHearpackAtomics

/// Samples that are worked on in place, full scale 1.0.
public typealias Block = UnsafeMutableBufferPointer<Float>

/// Samples from one thread to one other: a single producer, a single consumer, no lock and no allocation after init.
///
/// Positions only ever grow (64 bits last for millions of years); the difference is what lies inside. What does not
/// fit is refused and counted, never written over: the producer may not touch what the consumer is reading.
public final class RingBuffer: @unchecked Sendable {
    /// Samples it can hold: the capacity asked for, rounded up to a power of two.
    public let capacity: Int

    private let storage: UnsafeMutablePointer<Float>
    private let written: UnsafeMutablePointer<hearpack_counter>
    private let read: UnsafeMutablePointer<hearpack_counter>
    private let refused: UnsafeMutablePointer<hearpack_counter>

    /// - Parameter atLeast: samples that must fit, 1 or more.
    public init(atLeast: Int) {
        precondition(atLeast >= 1, "a ring holds at least 1 sample")
        var size = 1
        while size < atLeast { size *= 2 }
        capacity = size
        storage = .allocate(capacity: size)
        storage.initialize(repeating: 0, count: size)
        written = .allocate(capacity: 1)
        read = .allocate(capacity: 1)
        refused = .allocate(capacity: 1)
        written.initialize(to: hearpack_counter())
        read.initialize(to: hearpack_counter())
        refused.initialize(to: hearpack_counter())
    }

    deinit {
        storage.deallocate()
        written.deallocate()
        read.deallocate()
        refused.deallocate()
    }

    /// Samples ready for the consumer. Either thread may ask; the answer may be old for the other side.
    public var available: Int {
        Int(hearpack_load_acquire(written) - hearpack_load_acquire(read))
    }

    /// Samples refused since init because the ring was full.
    public var lostSamples: Int { Int(hearpack_load_relaxed(refused)) }

    /// Samples accepted since init.
    public var writtenSamples: Int { Int(hearpack_load_acquire(written)) }

    /// Producer: append samples.
    ///
    /// - Returns: how many fitted; the rest is lost and counted.
    @discardableResult
    public func write(_ source: UnsafePointer<Float>, _ count: Int) -> Int {
        let begin = hearpack_load_relaxed(written)
        let free = capacity - Int(begin - hearpack_load_acquire(read))
        let taken = min(count, free)
        let at = Int(begin) & (capacity - 1)
        let first = min(taken, capacity - at)
        (storage + at).update(from: source, count: first)
        storage.update(from: source + first, count: taken - first)
        hearpack_store_release(written, begin + Int64(taken))
        if taken < count { hearpack_add_relaxed(refused, Int64(count - taken)) }
        return taken
    }

    /// Consumer: take up to `count` samples, oldest first.
    ///
    /// - Returns: how many there were.
    @discardableResult
    public func read(_ target: UnsafeMutablePointer<Float>, _ count: Int) -> Int {
        let begin = hearpack_load_relaxed(read)
        let taken = min(count, Int(hearpack_load_acquire(written) - begin))
        let at = Int(begin) & (capacity - 1)
        let first = min(taken, capacity - at)
        target.update(from: storage + at, count: first)
        (target + first).update(from: storage, count: taken - first)
        hearpack_store_release(read, begin + Int64(taken))
        return taken
    }

    /// Consumer: drop up to `count` of the oldest samples.
    ///
    /// - Returns: how many were dropped.
    @discardableResult
    public func discard(_ count: Int) -> Int {
        let begin = hearpack_load_relaxed(read)
        let dropped = min(count, Int(hearpack_load_acquire(written) - begin))
        hearpack_store_release(read, begin + Int64(dropped))
        return dropped
    }
}
