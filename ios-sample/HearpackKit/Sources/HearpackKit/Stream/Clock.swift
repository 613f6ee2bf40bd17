import Foundation

/// Whole nanoseconds from process start, by one monotonic clock that does not stop in sleep: the time of device traces.
public protocol StreamClock: Sendable {
    func nowNs() -> Int64
}

/// The device's clock. Take one at process start and hand it on.
public struct MonotonicClock: StreamClock {
    private let origin: Int64

    public init() { origin = Self.read() }

    public func nowNs() -> Int64 { Self.read() - origin }

    private static func read() -> Int64 {
        var time = timespec()
        #if canImport(Darwin)
        clock_gettime(CLOCK_MONOTONIC_RAW, &time)  // mach_continuous_time; CLOCK_MONOTONIC is whole microseconds, and slewed
        #else
        clock_gettime(CLOCK_BOOTTIME, &time)
        #endif
        return Int64(time.tv_sec) * 1_000_000_000 + Int64(time.tv_nsec)
    }
}
