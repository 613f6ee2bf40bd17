// A stand-in for Core ML, for the type check on machines without it. Compile-only: nothing here does anything.
// After each declaration: the Objective-C member it stands for (as in the published typings) and since which iOS;
// tests/ios/test_stubs.py compares them with each other.
@_exported import Foundation

public enum MLComputeUnits: Int, Sendable {
    case cpuOnly  // MLComputeUnits.CPUOnly
    case cpuAndGPU  // MLComputeUnits.CPUAndGPU
    case all  // MLComputeUnits.All
    case cpuAndNeuralEngine  // MLComputeUnits.CPUAndNeuralEngine
}

public class MLModelConfiguration: NSObject {
    public override init() {}
    public var computeUnits: MLComputeUnits = .all  // MLModelConfiguration.computeUnits
}

public enum MLMultiArrayDataType: Int, Sendable {
    case double  // MLMultiArrayDataType.Double
    case float32  // MLMultiArrayDataType.Float32
    case float16  // MLMultiArrayDataType.Float16
    case int32  // MLMultiArrayDataType.Int32
}

public class MLMultiArray: NSObject {
    public init(shape: [NSNumber], dataType: MLMultiArrayDataType) throws {}  // MLMultiArray.initWithShapeDataTypeError
    public var shape: [NSNumber] { [] }  // MLMultiArray.shape
    public var strides: [NSNumber] { [] }  // MLMultiArray.strides
    public var dataType: MLMultiArrayDataType { .float32 }  // MLMultiArray.dataType
    public func withUnsafeBytes<R>(_ body: (UnsafeRawBufferPointer) throws -> R) rethrows -> R { fatalError() }  // MLMultiArray.getBytesWithHandler ios 15.4
    public func withUnsafeMutableBytes<R>(_ body: (UnsafeMutableRawBufferPointer, [Int]) throws -> R) rethrows -> R { fatalError() }  // MLMultiArray.getMutableBytesWithHandler ios 15.4
}

public class MLFeatureValue: NSObject {
    public init(multiArray: MLMultiArray) {}  // MLFeatureValue.featureValueWithMultiArray
    public var multiArrayValue: MLMultiArray? { nil }  // MLFeatureValue.multiArrayValue
}

public protocol MLFeatureProvider {
    var featureNames: Set<String> { get }  // MLFeatureProvider.featureNames
    func featureValue(for featureName: String) -> MLFeatureValue?  // MLFeatureProvider.featureValueForName
}

public class MLDictionaryFeatureProvider: NSObject, MLFeatureProvider {
    public init(dictionary: [String: Any]) throws {}  // MLDictionaryFeatureProvider.initWithDictionaryError
    public var featureNames: Set<String> { [] }  // MLDictionaryFeatureProvider.featureNames
    public func featureValue(for featureName: String) -> MLFeatureValue? { nil }  // MLDictionaryFeatureProvider.featureValueForName
}

public class MLMultiArrayConstraint: NSObject {
    public var shape: [NSNumber] { [] }  // MLMultiArrayConstraint.shape
    public var dataType: MLMultiArrayDataType { .float32 }  // MLMultiArrayConstraint.dataType
}

public class MLFeatureDescription: NSObject {
    public var multiArrayConstraint: MLMultiArrayConstraint? { nil }  // MLFeatureDescription.multiArrayConstraint
}

public class MLModelDescription: NSObject {
    public var inputDescriptionsByName: [String: MLFeatureDescription] { [:] }  // MLModelDescription.inputDescriptionsByName
    public var outputDescriptionsByName: [String: MLFeatureDescription] { [:] }  // MLModelDescription.outputDescriptionsByName
}

public class MLState: NSObject {}

public class MLModel: NSObject {
    public var modelDescription: MLModelDescription { fatalError() }  // MLModel.modelDescription
    public static func compileModel(at modelURL: URL) async throws -> URL { fatalError() }  // MLModel.compileModelAtURLCompletionHandler ios 16.0
    public static func load(contentsOf url: URL, configuration: MLModelConfiguration) async throws -> MLModel { fatalError() }  // MLModel.loadContentsOfURLConfigurationCompletionHandler ios 14.0
    public func prediction(from input: MLFeatureProvider) throws -> MLFeatureProvider { fatalError() }  // MLModel.predictionFromFeaturesError
    public func prediction(from input: MLFeatureProvider, using state: MLState) throws -> MLFeatureProvider { fatalError() }  // MLModel.predictionFromFeaturesUsingStateError ios 18.0
    public func makeState() -> MLState { fatalError() }  // MLModel.newState ios 18.0
}
