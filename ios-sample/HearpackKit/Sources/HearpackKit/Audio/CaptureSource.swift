import CHearpackAtomics

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

    enum CodingKeys: String, CodingKey {
        case rateHz = "rate_hz"
        case blockFrames = "block_frames"
        case channels, format, mode, source
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
    public var frames: Int32
    public var rateHz: Int32
    /// When the first frame was captured by the hardware's timestamp; -1 where there is none.
    public var hardwareTimeNs: Int64
    /// The hardware's frame counter there; -1 where there is none.
    public var hardwareFrame: Int64
}

/// The capture side of a stream: a ring of samples at the device's rate and a ring of callback records.
///
/// `deliver` is for the audio thread: no lock, no allocation, no call into Swift's runtime that may wait.
public final class CaptureFeed: @unchecked Sendable {
    public let ring: RingBuffer
    private let clock: any Clock
    private let records: UnsafeMutablePointer<CallbackRecord>
    private let recordCapacity: Int
    private let written: UnsafeMutablePointer<hearpack_counter>
    private let read: UnsafeMutablePointer<hearpack_counter>
    private let rate: UnsafeMutablePointer<hearpack_counter>

    /// - Parameters:
    ///   - ringSamples: samples that must fit, at the device's rate.
    ///   - recordCapacity: callbacks that may wait for the inference side; what comes on top is not traced.
    public init(ringSamples: Int, recordCapacity: Int = 4_096, clock: any Clock) {
        ring = RingBuffer(atLeast: ringSamples)
        self.clock = clock
        self.recordCapacity = recordCapacity
        records = .allocate(capacity: recordCapacity)
        written = .allocate(capacity: 1)
        read = .allocate(capacity: 1)
        rate = .allocate(capacity: 1)
        written.initialize(to: hearpack_counter())
        read.initialize(to: hearpack_counter())
        rate.initialize(to: hearpack_counter())
    }

    deinit {
        records.deallocate()
        written.deallocate()
        read.deallocate()
        rate.deallocate()
    }

    /// Rate of the blocks that follow; told by the source when it starts.
    public var rateHz: Int {
        get { Int(hearpack_load_acquire(rate)) }
        set { hearpack_store_release(rate, Int64(newValue)) }
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
        let at = hearpack_load_relaxed(written)
        if at - hearpack_load_acquire(read) < Int64(recordCapacity) {
            records[Int(at % Int64(recordCapacity))] = CallbackRecord(
                timeNs: begin, endNs: clock.nowNs(), frames: Int32(clamping: frames),
                rateHz: Int32(clamping: hearpack_load_relaxed(rate)), hardwareTimeNs: hardwareTimeNs,
                hardwareFrame: hardwareFrame)
            hearpack_store_release(written, at + 1)
        }
        return taken
    }

    /// Inference thread: the next callback's record, oldest first.
    public func nextRecord() -> CallbackRecord? {
        let at = hearpack_load_relaxed(read)
        guard at < hearpack_load_acquire(written) else { return nil }
        let record = records[Int(at % Int64(recordCapacity))]
        hearpack_store_release(read, at + 1)
        return record
    }
}
