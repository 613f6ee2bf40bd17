import CHearpackAtomics

/// Counters that one thread writes and another reads without a lock, by name, each on a cache line of its own.
///
/// The owner calls `deallocate` once, when nobody uses them any more.
struct Counters<Name: CaseIterable & RawRepresentable> where Name.RawValue == Int {
    private let cells: UnsafeMutablePointer<hearpack_counter>

    init() {
        cells = .allocate(capacity: Name.allCases.count)
        cells.initialize(repeating: hearpack_counter(), count: Name.allCases.count)
    }

    func deallocate() { cells.deallocate() }

    /// Acquire: what the other thread wrote before its `store` is then visible.
    @inline(__always)
    func load(_ name: Name) -> Int { Int(hearpack_load_acquire(cells + name.rawValue)) }

    /// Relaxed: for a counter that only this thread writes, or a figure for people.
    @inline(__always)
    func peek(_ name: Name) -> Int { Int(hearpack_load_relaxed(cells + name.rawValue)) }

    /// Release.
    @inline(__always)
    func store(_ name: Name, _ value: Int) { hearpack_store_release(cells + name.rawValue, Int64(value)) }

    /// Relaxed.
    @inline(__always)
    func add(_ name: Name, _ value: Int) { hearpack_add_relaxed(cells + name.rawValue, Int64(value)) }
}
