/// Samples that are worked on in place, full scale 1.0.
public typealias SampleBlock = UnsafeMutableBufferPointer<Float>

/// Samples from one thread to one other: a single producer, a single consumer, no lock and no allocation after init.
///
/// Positions only ever grow (64 bits last for millions of years); the difference is what lies inside. What does not
/// fit is refused and counted, never written over: the producer may not touch what the consumer is reading.
public final class RingBuffer: @unchecked Sendable {
    /// Samples it can hold: the capacity asked for, rounded up to a power of two.
    public let capacity: Int

    private let storage: UnsafeMutablePointer<Float>
    private let counters = Counters<Counter>()

    private enum Counter: Int, CaseIterable { case written, read, refused }

    /// - Parameter atLeast: samples that must fit, 1 or more.
    public init(atLeast: Int) {
        precondition(atLeast >= 1, "a ring holds at least 1 sample")
        var size = 1
        while size < atLeast { size *= 2 }
        capacity = size
        storage = .allocate(capacity: size)
        storage.initialize(repeating: 0, count: size)
    }

    deinit {
        storage.deallocate()
        counters.deallocate()
    }

    /// Samples ready for the consumer. Either thread may ask; the answer may be old for the other side.
    public var available: Int {
        counters.load(.written) - counters.load(.read)
    }

    /// Samples refused since init because the ring was full.
    public var lostSamples: Int { counters.peek(.refused) }

    /// Samples accepted since init.
    public var writtenSamples: Int { counters.load(.written) }

    /// Samples read or discarded since init.
    public var readSamples: Int { counters.load(.read) }

    /// Producer: append samples.
    ///
    /// - Returns: how many fitted; the rest is lost and counted.
    @discardableResult
    public func write(_ source: UnsafePointer<Float>, _ count: Int) -> Int {
        let begin = counters.peek(.written)
        let free = capacity - (begin - counters.load(.read))
        let taken = min(count, free)
        let at = begin & (capacity - 1)
        let first = min(taken, capacity - at)
        (storage + at).update(from: source, count: first)
        storage.update(from: source + first, count: taken - first)
        counters.store(.written, begin + taken)
        if taken < count { counters.add(.refused, count - taken) }
        return taken
    }

    /// Consumer: take up to `count` samples, oldest first.
    ///
    /// - Returns: how many there were.
    @discardableResult
    public func read(_ target: UnsafeMutablePointer<Float>, _ count: Int) -> Int {
        let begin = counters.peek(.read)
        let taken = min(count, counters.load(.written) - begin)
        let at = begin & (capacity - 1)
        let first = min(taken, capacity - at)
        target.update(from: storage + at, count: first)
        (target + first).update(from: storage, count: taken - first)
        counters.store(.read, begin + taken)
        return taken
    }

    /// Consumer: drop up to `count` of the oldest samples.
    ///
    /// - Returns: how many were dropped.
    @discardableResult
    public func discard(_ count: Int) -> Int {
        let begin = counters.peek(.read)
        let dropped = min(count, counters.load(.written) - begin)
        counters.store(.read, begin + dropped)
        return dropped
    }
}
