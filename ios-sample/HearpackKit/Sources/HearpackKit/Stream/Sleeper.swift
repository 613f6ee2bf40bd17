import Foundation

/// How the inference thread waits; a test has one of its own.
public protocol Sleeper: Sendable {
    func sleep(_ ns: Int64)
}

/// Puts the thread to sleep.
public struct ThreadSleeper: Sleeper {
    public init() {}

    public func sleep(_ ns: Int64) { Thread.sleep(forTimeInterval: Double(ns) / 1e9) }
}

/// Lengthens a thread's sleeps so that it wakes up 140 times a second at most on average: iOS ends an app with more than 150
/// over five minutes (EXC_RESOURCE WAKEUPS).
struct WakeupBudget {
    private static let intervalNs: Int64 = 1_000_000_000 / 140
    private static let burst: Int64 = 10

    private var paidNs: Int64?

    /// - Returns: how long to sleep now, `wantedNs` or longer.
    mutating func sleep(_ wantedNs: Int64, now: Int64) -> Int64 {
        let paid = max(paidNs ?? now, now - Self.burst * Self.intervalNs) + Self.intervalNs
        paidNs = paid
        return max(wantedNs, paid - now)
    }
}
