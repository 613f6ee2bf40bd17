// A stand-in for the part of SwiftUI that the app uses, for the type check on machines without it. Compile-only.
// SwiftUI has no Objective-C typings to be compared with: these signatures were written from its documentation, narrower
// than the real ones, so that what passes here is a subset of what passes in Xcode. All of it is in iOS 16.
@_exported import Foundation

@MainActor public protocol View { associatedtype Body: View; @ViewBuilder var body: Body { get } }
extension Never: View { public var body: Never { fatalError() } }
extension Optional: View where Wrapped: View { public var body: Never { fatalError() } }

@MainActor public protocol Scene { associatedtype Body: Scene; @SceneBuilder var body: Body { get } }
extension Never: Scene {}
@MainActor public protocol App { associatedtype B: Scene; @SceneBuilder var body: B { get }; init() }
extension App { @MainActor public static func main() {} }
@resultBuilder public struct SceneBuilder { public static func buildBlock<S: Scene>(_ s: S) -> S { s } }
public struct WindowGroup<C: View>: Scene { public init(@ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }

@resultBuilder public struct ViewBuilder {
    public static func buildBlock() -> EmptyView { EmptyView() }
    public static func buildBlock<C: View>(_ c: C) -> C { c }
    public static func buildBlock<each C: View>(_ c: repeat each C) -> TupleView<(repeat each C)> { fatalError() }
    public static func buildIf<C: View>(_ c: C?) -> C? { c }
    public static func buildEither<T: View, F: View>(first: T) -> Either<T, F> { fatalError() }
    public static func buildEither<T: View, F: View>(second: F) -> Either<T, F> { fatalError() }
}
public struct EmptyView: View { nonisolated public init() {}; public var body: Never { fatalError() } }
public struct TupleView<T>: View { public var body: Never { fatalError() } }
public struct Either<T: View, F: View>: View { public var body: Never { fatalError() } }

public struct Font: Sendable { public static let title2 = Font(), headline = Font(), body = Font(), footnote = Font(), callout = Font(); public func monospacedDigit() -> Font { self } }
public struct Color: View, Sendable { public static let secondary = Color(), red = Color(), green = Color(), accentColor = Color(); public var body: Never { fatalError() } }
public enum HorizontalAlignment: Sendable { case leading, center, trailing }
public enum VerticalAlignment: Sendable { case top, center, bottom, firstTextBaseline }
public struct AccessibilityTraits: OptionSet, Sendable { public let rawValue: Int; public init(rawValue: Int) { self.rawValue = rawValue }; public static let updatesFrequently = AccessibilityTraits(rawValue: 1), isHeader = AccessibilityTraits(rawValue: 2) }
public enum AccessibilityChildBehavior: Sendable { case combine, contain, ignore }
public struct ButtonStyleBox: Sendable { public static let borderedProminent = ButtonStyleBox(), bordered = ButtonStyleBox() }
public struct EdgeInsets: Sendable {}

public struct Text: View { public init<S: StringProtocol>(_ s: S) {}; public var body: Never { fatalError() } }
public struct Label: View { public init<S: StringProtocol>(_ s: S, systemImage: String) {}; public var body: Never { fatalError() } }
public struct Image: View { public init(systemName: String) {}; public var body: Never { fatalError() } }
public struct Spacer: View { public init() {}; public var body: Never { fatalError() } }
public struct ProgressView: View { public init() {}; public init<S: StringProtocol>(_ s: S) {}; public init(value: Double, total: Double) {}; public var body: Never { fatalError() } }
public struct VStack<C: View>: View { public init(alignment: HorizontalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }
public struct ViewThatFits<C: View>: View { public init(@ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }
public struct HStack<C: View>: View { public init(alignment: VerticalAlignment = .center, spacing: CGFloat? = nil, @ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }
public struct List<C: View>: View { public init(@ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }
public struct Section<C: View>: View { public init<S: StringProtocol>(_ title: S, @ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }
public struct NavigationStack<C: View>: View { public init(@ViewBuilder root: () -> C) {}; public var body: Never { fatalError() } }
public struct Button: View { public init<S: StringProtocol>(_ title: S, action: @escaping @MainActor () -> Void) {}; public var body: Never { fatalError() } }
public struct ShareLink: View { public init<S: StringProtocol>(_ title: S, item: URL) {}; public var body: Never { fatalError() } }
public struct Link: View { public init<S: StringProtocol>(_ title: S, destination: URL) {}; public var body: Never { fatalError() } }
public struct ForEach<D: RandomAccessCollection, ID: Hashable, C: View>: View { public init(_ data: D, id: KeyPath<D.Element, ID>, @ViewBuilder content: @escaping (D.Element) -> C) {}; public var body: Never { fatalError() } }
public struct Picker<V: Hashable, C: View>: View { public init<S: StringProtocol>(_ title: S, selection: Binding<V>, @ViewBuilder content: () -> C) {}; public var body: Never { fatalError() } }

extension View {
    public func font(_ font: Font?) -> some View { self }
    public func foregroundStyle(_ color: Color) -> some View { self }
    public func padding() -> some View { self }
    public func navigationTitle<S: StringProtocol>(_ title: S) -> some View { self }
    public func accessibilityLabel<S: StringProtocol>(_ label: S) -> some View { self }
    public func accessibilityValue<S: StringProtocol>(_ value: S) -> some View { self }
    public func accessibilityHint<S: StringProtocol>(_ hint: S) -> some View { self }
    public func accessibilityAddTraits(_ traits: AccessibilityTraits) -> some View { self }
    public func accessibilityElement(children: AccessibilityChildBehavior) -> some View { self }
    public func accessibilityHidden(_ hidden: Bool) -> some View { self }
    public func disabled(_ disabled: Bool) -> some View { self }
    public func frame(minWidth: CGFloat? = nil, maxWidth: CGFloat? = nil, minHeight: CGFloat? = nil) -> some View { self }
    public func buttonStyle(_ style: ButtonStyleBox) -> some View { self }
    public func task(_ action: @escaping @MainActor @Sendable () async -> Void) -> some View { self }
    public func tag<V: Hashable>(_ tag: V) -> some View { self }
    public func onChange<V: Equatable>(of value: V, perform action: @escaping (V) -> Void) -> some View { self }
}

@propertyWrapper public struct Binding<V> { public var wrappedValue: V { get { fatalError() } nonmutating set {} }; public init(get: @escaping () -> V, set: @escaping (V) -> Void) {}; public var projectedValue: Binding<V> { self } }
@MainActor @propertyWrapper public struct State<V> { public init(wrappedValue: V) {}; public var wrappedValue: V { get { fatalError() } nonmutating set {} }; public var projectedValue: Binding<V> { fatalError() } }
public protocol ObservableObject: AnyObject {}
@propertyWrapper public struct Published<V> { public init(wrappedValue: V) { self.wrappedValue = wrappedValue }; public var wrappedValue: V }
@MainActor @propertyWrapper public struct StateObject<O: ObservableObject> { public init(wrappedValue: @autoclosure @escaping () -> O) {}; public var wrappedValue: O { fatalError() } }
@MainActor @propertyWrapper public struct ObservedObject<O: ObservableObject> { public init(wrappedValue: O) { self.wrappedValue = wrappedValue }; public var wrappedValue: O }
