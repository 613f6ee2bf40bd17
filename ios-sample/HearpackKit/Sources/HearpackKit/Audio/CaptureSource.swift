/// How capture was set up: what was asked for, or what was given.
public struct CaptureFormat: Codable, Equatable, Sendable {
    public enum Sample: String, Codable, Sendable { case pcm16, float32 }

    public var rateHz: Int
    public var channels: Int
    public var blockFrames: Int?
    public var format: Sample?
    public var mode: String?
    public var source: String?

    public init(
        rateHz: Int, channels: Int, blockFrames: Int? = nil, format: Sample? = nil, mode: String? = nil,
        source: String? = nil
    ) {
        self.rateHz = rateHz
        self.channels = channels
        self.blockFrames = blockFrames
        self.format = format
        self.mode = mode
        self.source = source
    }
}

/// Where audio comes from: the microphone in the app, a file or a script in tests.
public protocol CaptureSource: AnyObject {
    /// Begin to deliver blocks to `feed`, on a thread of the source's own.
    ///
    /// - Returns: what the system gave, read back after the start.
    /// - Throws: `permission` or `audio`.
    func start(_ feed: CaptureFeed) throws -> CaptureFormat
    func stop()
}

/// One callback, as the trace will have it. Plain numbers: it is written on the audio thread.
public struct CallbackRecord: Equatable, Sendable {
    public var timeNs: Int64
    public var endNs: Int64
    public var frames: Int64
    public var rateHz: Int32
    /// When the first frame was captured by the hardware's timestamp; -1 where there is none.
    public var hardwareTimeNs: Int64
    /// The hardware's frame counter there; -1 where there is none.
    public var hardwareFrame: Int64
    /// Samples the ring had taken in by then.
    public var endPosition: Int
    /// Callbacks it stands for, and when the last of them came, if they are several.
    public var count: Int32 = 1
    public var lastTimeNs: Int64 = 0
}

/// The capture side of a stream: a ring of samples at the device's rate and a ring of callback records.
///
/// `deliver` is for the audio thread: no lock, no allocation, no call into Swift's runtime that may wait.
public final class CaptureFeed: @unchecked Sendable {
    public let ring: RingBuffer
    private let clock: any StreamClock
    private let records: UnsafeMutablePointer<CallbackRecord>
    private let recordCapacity: Int
    private let counters = Counters<Counter>()

    private enum Counter: Int, CaseIterable { case written, read, rate }

    /// - Parameters:
    ///   - ringSamples: samples that must fit, at the device's rate.
    ///   - recordCapacity: callbacks that may wait for the inference side; what comes on top is not traced.
    public init(ringSamples: Int, recordCapacity: Int = 4_096, clock: any StreamClock) {
        ring = RingBuffer(atLeast: ringSamples)
        self.clock = clock
        self.recordCapacity = recordCapacity
        records = .allocate(capacity: recordCapacity)
    }

    deinit {
        records.deallocate()
        counters.deallocate()
    }

    /// Rate of the blocks that follow; set by the source when it starts.
    public var rateHz: Int {
        get { counters.load(.rate) }
        set { counters.store(.rate, newValue) }
    }

    /// Audio thread: one block of mono samples.
    ///
    /// - Returns: samples that found room.
    @discardableResult
    public func deliver(
        _ samples: UnsafePointer<Float>, _ frames: Int, hardwareTimeNs: Int64 = -1, hardwareFrame: Int64 = -1
    ) -> Int {
        let begin = clock.nowNs()
        let taken = ring.write(samples, frames)
        let at = counters.peek(.written)
        if at - counters.load(.read) < recordCapacity {
            records[at % recordCapacity] = CallbackRecord(
                timeNs: begin, endNs: clock.nowNs(), frames: Int64(frames),
                rateHz: Int32(clamping: counters.peek(.rate)), hardwareTimeNs: hardwareTimeNs,
                hardwareFrame: hardwareFrame, endPosition: ring.writtenSamples)
            counters.store(.written, at + 1)
        }
        return taken
    }

    /// Inference thread: the next callback's record, oldest first.
    public func nextRecord() -> CallbackRecord? {
        let at = counters.peek(.read)
        guard at < counters.load(.written) else { return nil }
        let record = records[at % recordCapacity]
        counters.store(.read, at + 1)
        return record
    }
}
