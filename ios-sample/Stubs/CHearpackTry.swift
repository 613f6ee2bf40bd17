// A stand-in for the Objective-C target CHearpackTry, which needs Foundation's headers of Apple's systems. Compile-only.
@_exported import Foundation

public func hearpack_try(_ block: () -> Void) -> String? { nil }  // header CHearpackTry
