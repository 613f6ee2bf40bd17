// A stand-in for the part of Core AI (iOS 27, beta) that the engine uses, for the type check on machines without it. Compile-only.
// There are no published typings to compare with: these signatures were written from Apple's documentation of the beta.
// withUnsafePointer's arguments are the least certain of them. Every use stands behind canImport and iOS 27.
@_exported import Foundation

public struct SpecializationOptions: Sendable { public static let cpuOnly = SpecializationOptions() }
public struct AIModel: Sendable {
    public init(contentsOf url: URL, options: SpecializationOptions) async throws {}
    public func loadFunction(named name: String) throws -> InferenceFunction? { nil }
    public func functionDescriptor(for name: String) -> InferenceFunctionDescriptor? { nil }
}
public struct InferenceFunctionDescriptor: Sendable { public var inputNames: [String] { [] }; public var outputNames: [String] { [] } }
public struct InferenceFunction: Sendable {
    public struct Outputs: ~Copyable { public mutating func remove(_ name: String) -> InferenceValue? { nil } }
    public func run(inputs: [String: NDArray]) async throws -> Outputs { fatalError() }
}
public struct InferenceValue { public var ndArray: NDArray? { nil } }
public struct NDArray {
    public enum ScalarType: Sendable { case float32, float16 }
    public init(scalars: [Float], shape: [Int]) {}
    public var shape: [Int] { [] }
    public var scalarType: ScalarType { .float32 }
    public func view<Element>(as type: Element.Type) -> View<Element> { fatalError() }
    public struct View<Element> {
        public func withUnsafePointer<R>(_ body: (UnsafePointer<Element>, [Int], [Int]) throws -> R) rethrows -> R { fatalError() }
    }
}
