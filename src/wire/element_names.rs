//! What information elements are called.
//!
//! Names are facts for people who read templates; nothing is decoded by them. IANA's are those of the registry "IPFIX
//! Information Elements" (iana.org/assignments/ipfix, as of 2026-08), which NetFlow v9 shares up to 127. Vendors' are those
//! of their manuals: Cisco AVC and ASA (NetFlow v9 identifiers from 33000 on), Palo Alto PAN-OS, Juniper Junos, Citrix
//! NetScaler AppFlow, VMware NSX, Cisco SD-WAN (Viptela), Nokia, Huawei, netfilter's ulogd, ntop nProbe, CERT YAF.
//!
//! A table is one text: a number is the identifier of the name after it, each further name has the next identifier.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::LazyLock;

/// The enterprise whose elements are IANA's in the reverse direction (RFC 5103, 6.1).
const REVERSE: u32 = 29_305;
/// ntop's enterprise number.
const NPROBE_ENTERPRISE: u32 = 35_632;
/// In NetFlow v9, which has no enterprises, nProbe adds this to its own identifiers (`nprobe --help`).
const NPROBE_IN_V9: u16 = 57_472;

/// The name of element `id` of `enterprise` (0 is IANA, and all of NetFlow v9), if it is known.
pub fn element_name(enterprise: u32, id: u16) -> Option<Cow<'static, str>> {
    static NAMES: LazyLock<HashMap<(u32, u16), &'static str, foldhash::fast::FixedState>> = LazyLock::new(|| {
        TABLES
            .iter()
            .flat_map(|&(enterprise, text)| rows(text).map(move |(id, name)| ((enterprise, id), name)))
            .collect()
    });
    let known = |enterprise, id| NAMES.get(&(enterprise, id)).copied();
    if enterprise == REVERSE {
        // RFC 5103, 6.1: the name begins with "reverse" and goes on with a capital letter.
        let name = known(0, id)?;
        let (first, rest) = name.split_at_checked(1)?;
        return Some(Cow::Owned(format!("reverse{}{rest}", first.to_ascii_uppercase())));
    }
    let in_v9 = || known(NPROBE_ENTERPRISE, id.checked_sub(NPROBE_IN_V9).filter(|_| enterprise == 0)?);
    known(enterprise, id).or_else(in_v9).map(Cow::Borrowed)
}

/// The identifiers and names of a table.
fn rows(text: &'static str) -> impl Iterator<Item = (u16, &'static str)> {
    let mut next = 0u16;
    text.split_ascii_whitespace().filter_map(move |word| match word.parse() {
        Ok(id) => {
            next = id;
            None
        }
        Err(_) => {
            let id = next;
            next = next.saturating_add(1);
            Some((id, word))
        }
    })
}

/// The tables by enterprise.
static TABLES: &[(u32, &str)] = &[
    (0, IANA),
    (0, NETFLOW_V9),
    (9, CISCO),
    (637, "91 natInsideSvcid natOutsideSvcid natSubString"),
    (2_011, "1 ingressGponGemPortId egressGponGemPortId"),
    (2_636, "137 commonPropertiesId"),
    (5_951, CITRIX),
    (6_871, YAF),
    (6_876, VMWARE),
    (21_373, "4 mark 6 conntrackId"),
    (NPROBE_ENTERPRISE, NPROBE),
    (41_916, "4321 viptelaVPNId"),
];

static IANA: &str = "\
    1 octetDeltaCount packetDeltaCount deltaFlowCount protocolIdentifier ipClassOfService tcpControlBits \
    sourceTransportPort sourceIPv4Address sourceIPv4PrefixLength ingressInterface destinationTransportPort \
    destinationIPv4Address destinationIPv4PrefixLength egressInterface ipNextHopIPv4Address bgpSourceAsNumber \
    bgpDestinationAsNumber bgpNextHopIPv4Address postMCastPacketDeltaCount postMCastOctetDeltaCount flowEndSysUpTime \
    flowStartSysUpTime postOctetDeltaCount postPacketDeltaCount minimumIpTotalLength maximumIpTotalLength \
    sourceIPv6Address destinationIPv6Address sourceIPv6PrefixLength destinationIPv6PrefixLength flowLabelIPv6 \
    icmpTypeCodeIPv4 igmpType samplingInterval samplingAlgorithm flowActiveTimeout flowIdleTimeout engineType \
    engineId exportedOctetTotalCount exportedMessageTotalCount exportedFlowRecordTotalCount ipv4RouterSc \
    sourceIPv4Prefix destinationIPv4Prefix mplsTopLabelType mplsTopLabelIPv4Address samplerId samplerMode \
    samplerRandomInterval classId minimumTTL maximumTTL fragmentIdentification postIpClassOfService sourceMacAddress \
    postDestinationMacAddress vlanId postVlanId ipVersion flowDirection ipNextHopIPv6Address bgpNextHopIPv6Address \
    ipv6ExtensionHeaders 70 mplsTopLabelStackSection mplsLabelStackSection2 mplsLabelStackSection3 \
    mplsLabelStackSection4 mplsLabelStackSection5 mplsLabelStackSection6 mplsLabelStackSection7 \
    mplsLabelStackSection8 mplsLabelStackSection9 mplsLabelStackSection10 destinationMacAddress postSourceMacAddress \
    interfaceName interfaceDescription samplerName octetTotalCount packetTotalCount flagsAndSamplerId fragmentOffset \
    forwardingStatus mplsVpnRouteDistinguisher mplsTopLabelPrefixLength srcTrafficIndex dstTrafficIndex \
    applicationDescription applicationId applicationName 98 postIpDiffServCodePoint multicastReplicationFactor \
    className classificationEngineId layer2packetSectionOffset layer2packetSectionSize layer2packetSectionData 128 \
    bgpNextAdjacentAsNumber bgpPrevAdjacentAsNumber exporterIPv4Address exporterIPv6Address droppedOctetDeltaCount \
    droppedPacketDeltaCount droppedOctetTotalCount droppedPacketTotalCount flowEndReason commonPropertiesId \
    observationPointId icmpTypeCodeIPv6 mplsTopLabelIPv6Address lineCardId portId meteringProcessId \
    exportingProcessId templateId wlanChannelId wlanSSID flowId observationDomainId flowStartSeconds flowEndSeconds \
    flowStartMilliseconds flowEndMilliseconds flowStartMicroseconds flowEndMicroseconds flowStartNanoseconds \
    flowEndNanoseconds flowStartDeltaMicroseconds flowEndDeltaMicroseconds systemInitTimeMilliseconds \
    flowDurationMilliseconds flowDurationMicroseconds observedFlowTotalCount ignoredPacketTotalCount \
    ignoredOctetTotalCount notSentFlowTotalCount notSentPacketTotalCount notSentOctetTotalCount \
    destinationIPv6Prefix sourceIPv6Prefix postOctetTotalCount postPacketTotalCount flowKeyIndicator \
    postMCastPacketTotalCount postMCastOctetTotalCount icmpTypeIPv4 icmpCodeIPv4 icmpTypeIPv6 icmpCodeIPv6 \
    udpSourcePort udpDestinationPort tcpSourcePort tcpDestinationPort tcpSequenceNumber tcpAcknowledgementNumber \
    tcpWindowSize tcpUrgentPointer tcpHeaderLength ipHeaderLength totalLengthIPv4 payloadLengthIPv6 ipTTL \
    nextHeaderIPv6 mplsPayloadLength ipDiffServCodePoint ipPrecedence fragmentFlags octetDeltaSumOfSquares \
    octetTotalSumOfSquares mplsTopLabelTTL mplsLabelStackLength mplsLabelStackDepth mplsTopLabelExp ipPayloadLength \
    udpMessageLength isMulticast ipv4IHL ipv4Options tcpOptions paddingOctets collectorIPv4Address \
    collectorIPv6Address exportInterface exportProtocolVersion exportTransportProtocol collectorTransportPort \
    exporterTransportPort tcpSynTotalCount tcpFinTotalCount tcpRstTotalCount tcpPshTotalCount tcpAckTotalCount \
    tcpUrgTotalCount ipTotalLength postNATSourceIPv4Address postNATDestinationIPv4Address \
    postNAPTSourceTransportPort postNAPTDestinationTransportPort natOriginatingAddressRealm natEvent initiatorOctets \
    responderOctets firewallEvent ingressVRFID egressVRFID VRFname postMplsTopLabelExp tcpWindowScale \
    biflowDirection ethernetHeaderLength ethernetPayloadLength ethernetTotalLength dot1qVlanId dot1qPriority \
    dot1qCustomerVlanId dot1qCustomerPriority metroEvcId metroEvcType pseudoWireId pseudoWireType \
    pseudoWireControlWord ingressPhysicalInterface egressPhysicalInterface postDot1qVlanId postDot1qCustomerVlanId \
    ethernetType postIpPrecedence collectionTimeMilliseconds exportSctpStreamId maxExportSeconds maxFlowEndSeconds \
    messageMD5Checksum messageScope minExportSeconds minFlowStartSeconds opaqueOctets sessionScope \
    maxFlowEndMicroseconds maxFlowEndMilliseconds maxFlowEndNanoseconds minFlowStartMicroseconds \
    minFlowStartMilliseconds minFlowStartNanoseconds collectorCertificate exporterCertificate dataRecordsReliability \
    observationPointType newConnectionDeltaCount connectionSumDurationSeconds connectionTransactionId \
    postNATSourceIPv6Address postNATDestinationIPv6Address natPoolId natPoolName anonymizationFlags \
    anonymizationTechnique informationElementIndex 291 basicList subTemplateList subTemplateMultiList \
    bgpValidityState IPSecSPI greKey natType initiatorPackets responderPackets observationDomainName \
    selectionSequenceId selectorId informationElementId selectorAlgorithm samplingPacketInterval samplingPacketSpace \
    samplingTimeInterval samplingTimeSpace samplingSize samplingPopulation samplingProbability dataLinkFrameSize \
    ipHeaderPacketSection ipPayloadPacketSection dataLinkFrameSection mplsLabelStackSection mplsPayloadPacketSection \
    selectorIdTotalPktsObserved selectorIdTotalPktsSelected absoluteError relativeError observationTimeSeconds \
    observationTimeMilliseconds observationTimeMicroseconds observationTimeNanoseconds digestHashValue \
    hashIPPayloadOffset hashIPPayloadSize hashOutputRangeMin hashOutputRangeMax hashSelectedRangeMin \
    hashSelectedRangeMax hashDigestOutput hashInitialiserValue selectorName upperCILimit lowerCILimit \
    confidenceLevel informationElementDataType informationElementDescription informationElementName \
    informationElementRangeBegin informationElementRangeEnd informationElementSemantics informationElementUnits \
    privateEnterpriseNumber virtualStationInterfaceId virtualStationInterfaceName virtualStationUUID \
    virtualStationName layer2SegmentId layer2OctetDeltaCount layer2OctetTotalCount ingressUnicastPacketTotalCount \
    ingressMulticastPacketTotalCount ingressBroadcastPacketTotalCount egressUnicastPacketTotalCount \
    egressBroadcastPacketTotalCount monitoringIntervalStartMilliSeconds monitoringIntervalEndMilliSeconds \
    portRangeStart portRangeEnd portRangeStepSize portRangeNumPorts staMacAddress staIPv4Address wtpMacAddress \
    ingressInterfaceType egressInterfaceType rtpSequenceNumber userName applicationCategoryName \
    applicationSubCategoryName applicationGroupName originalFlowsPresent originalFlowsInitiated \
    originalFlowsCompleted distinctCountOfSourceIPAddress distinctCountOfDestinationIPAddress \
    distinctCountOfSourceIPv4Address distinctCountOfDestinationIPv4Address distinctCountOfSourceIPv6Address \
    distinctCountOfDestinationIPv6Address valueDistributionMethod rfc3550JitterMilliseconds \
    rfc3550JitterMicroseconds rfc3550JitterNanoseconds dot1qDEI dot1qCustomerDEI flowSelectorAlgorithm \
    flowSelectedOctetDeltaCount flowSelectedPacketDeltaCount flowSelectedFlowDeltaCount selectorIDTotalFlowsObserved \
    selectorIDTotalFlowsSelected samplingFlowInterval samplingFlowSpacing flowSamplingTimeInterval \
    flowSamplingTimeSpacing hashFlowDomain transportOctetDeltaCount transportPacketDeltaCount \
    originalExporterIPv4Address originalExporterIPv6Address originalObservationDomainId intermediateProcessId \
    ignoredDataRecordTotalCount dataLinkFrameType sectionOffset sectionExportedOctets dot1qServiceInstanceTag \
    dot1qServiceInstanceId dot1qServiceInstancePriority dot1qCustomerSourceMacAddress \
    dot1qCustomerDestinationMacAddress 417 postLayer2OctetDeltaCount postMCastLayer2OctetDeltaCount 420 \
    postLayer2OctetTotalCount postMCastLayer2OctetTotalCount minimumLayer2TotalLength maximumLayer2TotalLength \
    droppedLayer2OctetDeltaCount droppedLayer2OctetTotalCount ignoredLayer2OctetTotalCount \
    notSentLayer2OctetTotalCount layer2OctetDeltaSumOfSquares layer2OctetTotalSumOfSquares layer2FrameDeltaCount \
    layer2FrameTotalCount pseudoWireDestinationIPv4Address ignoredLayer2FrameTotalCount mibObjectValueInteger \
    mibObjectValueOctetString mibObjectValueOID mibObjectValueBits mibObjectValueIPAddress mibObjectValueCounter \
    mibObjectValueGauge mibObjectValueTimeTicks mibObjectValueUnsigned mibObjectValueTable mibObjectValueRow \
    mibObjectIdentifier mibSubIdentifier mibIndexIndicator mibCaptureTimeSemantics mibContextEngineID mibContextName \
    mibObjectName mibObjectDescription mibObjectSyntax mibModuleName mobileIMSI mobileMSISDN httpStatusCode \
    sourceTransportPortsLimit httpRequestMethod httpRequestHost httpRequestTarget httpMessageVersion natInstanceID \
    internalAddressRealm externalAddressRealm natQuotaExceededEvent natThresholdEvent httpUserAgent httpContentType \
    httpReasonPhrase maxSessionEntries maxBIBEntries maxEntriesPerUser maxSubscribers maxFragmentsPendingReassembly \
    addressPoolHighThreshold addressPoolLowThreshold addressPortMappingHighThreshold addressPortMappingLowThreshold \
    addressPortMappingPerUserHighThreshold globalAddressMappingHighThreshold vpnIdentifier bgpCommunity \
    bgpSourceCommunityList bgpDestinationCommunityList bgpExtendedCommunity bgpSourceExtendedCommunityList \
    bgpDestinationExtendedCommunityList bgpLargeCommunity bgpSourceLargeCommunityList \
    bgpDestinationLargeCommunityList srhFlagsIPv6 srhTagIPv6 srhSegmentIPv6 srhActiveSegmentIPv6 \
    srhSegmentIPv6BasicList srhSegmentIPv6ListSection srhSegmentsIPv6Left srhIPv6Section srhIPv6ActiveSegmentType \
    srhSegmentIPv6LocatorLength srhSegmentIPv6EndpointBehavior transportChecksum icmpHeaderPacketSection gtpuFlags \
    gtpuMsgType gtpuTEid gtpuSequenceNum gtpuQFI gtpuPduType bgpSourceAsPathList bgpDestinationAsPathList \
    ipv6ExtensionHeaderType ipv6ExtensionHeaderCount ipv6ExtensionHeadersFull ipv6ExtensionHeaderTypeCountList \
    ipv6ExtensionHeadersLimit ipv6ExtensionHeadersChainLength ipv6ExtensionHeaderChainLengthList tcpOptionsFull \
    tcpSharedOptionExID16 tcpSharedOptionExID32 tcpSharedOptionExID16List tcpSharedOptionExID32List udpSafeOptions \
    udpUnsafeOptions udpExID udpSafeExIDList udpUnsafeExIDList pathDelayMeanDeltaMicroseconds \
    pathDelayMinDeltaMicroseconds pathDelayMaxDeltaMicroseconds pathDelaySumDeltaMicroseconds";

static NETFLOW_V9: &str = "\
    33000 ingressAclId egressAclId firewallExtendedEvent 34000 ctsSourceGroupTag ctsDestinationGroupTag 40000 \
    userName xlateSourceAddressIPv4 xlateDestinationAddressIPv4 xlateSourcePort xlateDestinationPort firewallEvent \
    56701 paloAltoAppId paloAltoUserId";

static CISCO: &str = "\
    4315 tcpWindowSizeMin tcpWindowSizeMax 4318 tcpMaximumSegmentSize 4324 tcpWindowSizeSum 8232 classHierarchy 8337 \
    serverBytesNetwork clientBytesNetwork 9252 servicesWaasSegment servicesWaasPassThroughReason 9265 \
    artClientPackets artServerPackets clientRetransBytes clientRetransPackets serverRetransBytes \
    serverRetransPackets 9272 transactionCountDelta sumTransactionTime maxTransactionTime minTransactionTime 9282 \
    artCountNewConnections 9292 numRespsCountDelta numResps1CountDelta numResps2CountDelta numResps3CountDelta \
    numResps4CountDelta numResps5CountDelta numResps6CountDelta numResps7CountDelta numLateRespsCountDelta 9303 \
    sumRespTime maxRespTime minRespTime sumServerRespTime maxServerRespTime minServerRespTime sumTotalRespTime \
    maxTotalRespTime minTotalRespTime 9313 sumNwkTime maxNwkTime minNwkTime sumClientNwkTime maxClientNwkTime \
    minClientNwkTime sumServerNwkTime maxServerNwkTime minServerNwkTime 9357 appHTTPUriStatistics 9360 \
    policyQosQueueID policyQosQueueDrop 12232 appCategoryName appSubCategoryName appGroupName 12236 \
    clientIPv4Address serverIPv4Address clientIPv6Address serverIPv6Address clientTransportPort serverTransportPort \
    connectionId applicationTrafficClass appBusiness";

static CITRIX: &str = "\
    128 netscalerRoundTripTime netscalerTransactionId netscalerHttpReqUrl netscalerHttpReqCookie netscalerFlowFlags \
    netscalerConnectionId netscalerSyslogPriority netscalerSyslogMessage netscalerSyslogTimestamp 140 \
    netscalerHttpReqReferer netscalerHttpReqMethod netscalerHttpReqHost netscalerHttpReqUserAgent \
    netscalerHttpRspStatus netscalerHttpRspLen netscalerServerTTFB netscalerServerTTLB 150 \
    netscalerAppNameIncarnationNumber netscalerAppNameAppId netscalerAppName netscalerHttpReqRcvFB 156 \
    netscalerHttpReqForwFB netscalerHttpResRcvFB netscalerHttpResForwFB netscalerHttpReqRcvLB netscalerHttpReqForwLB \
    netscalerMainPageId netscalerMainPageCoreId netscalerHttpClientInteractionStartTime \
    netscalerHttpClientRenderEndTime netscalerHttpClientRenderStartTime 167 netscalerAppTemplateName \
    netscalerHttpClientInteractionEndTime netscalerHttpResRcvLB netscalerHttpResForwLB netscalerAppUnitNameAppId \
    netscalerDbLoginFlags netscalerDbReqType netscalerDbProtocolName netscalerDbUserName netscalerDbDatabaseName \
    netscalerDbCltHostName netscalerDbReqString netscalerDbRespStatusString netscalerDbRespStatus \
    netscalerDbRespLength netscalerClientRTT netscalerHttpContentType 185 netscalerHttpReqAuthorization \
    netscalerHttpReqVia netscalerHttpResLocation netscalerHttpResSetCookie netscalerHttpResSetCookie2 \
    netscalerHttpReqXForwardedFor 192 netscalerConnectionChainID netscalerConnectionChainHopCount 200 \
    netscalerIcaSessionGuid netscalerIcaClientVersion netscalerIcaClientType netscalerIcaClientIP \
    netscalerIcaClientHostName netscalerAaaUsername 207 netscalerIcaDomainName netscalerIcaClientLauncher \
    netscalerIcaSessionSetupTime netscalerIcaServerName 214 netscalerIcaSessionReconnects netscalerIcaRTT \
    netscalerIcaClientsideRXBytes netscalerIcaClientsideTXBytes 219 netscalerIcaClientsidePacketsRetransmit \
    netscalerIcaServersidePacketsRetransmit netscalerIcaClientsideRTT netscalerIcaServersideRTT \
    netscalerIcaSessionUpdateBeginSec netscalerIcaSessionUpdateEndSec netscalerIcaChannelId1 \
    netscalerIcaChannelId1Bytes netscalerIcaChannelId2 netscalerIcaChannelId2Bytes netscalerIcaChannelId3 \
    netscalerIcaChannelId3Bytes netscalerIcaChannelId4 netscalerIcaChannelId4Bytes netscalerIcaChannelId5 \
    netscalerIcaChannelId5Bytes netscalerIcaConnectionPriority netscalerApplicationStartupDuration \
    netscalerIcaLaunchMechanism netscalerIcaApplicationName netscalerApplicationStartupTime \
    netscalerIcaApplicationTerminationType netscalerIcaApplicationTerminationTime netscalerIcaSessionEndTime \
    netscalerIcaClientsideJitter netscalerIcaServersideJitter netscalerIcaAppProcessID netscalerIcaAppModulePath \
    netscalerIcaDeviceSerialNo netscalerMsiClientCookie netscalerIcaFlags netscalerIcaUsername netscalerLicenseType \
    netscalerMaxLicenseCount netscalerCurrentLicenseConsumed netscalerIcaNetworkUpdateStartTime \
    netscalerIcaNetworkUpdateEndTime netscalerIcaClientsideSRTT netscalerIcaServersideSRTT \
    netscalerIcaClientsideDelay netscalerIcaServersideDelay netscalerIcaHostDelay netscalerIcaClientSideWindowSize \
    netscalerIcaServerSideWindowSize netscalerIcaClientSideRTOCount netscalerIcaServerSideRTOCount \
    netscalerIcaL7ClientLatency netscalerIcaL7ServerLatency netscalerHttpDomainName \
    netscalerCacheRedirClientConnectionCoreID netscalerCacheRedirClientConnectionTransactionID";

static YAF: &str = "\
    14 initialTCPFlags unionTCPFlags 18 payload 21 reverseFlowDeltaMilliseconds 33 silkAppLabel 40 flowAttributes 100 \
    expiredFragmentCount assembledFragmentCount meanFlowRate meanPacketRate flowTableFlushEventCount \
    flowTablePeakCount";

static VMWARE: &str = "\
    880 tenantProtocol tenantSourceIPv4 tenantDestIPv4 tenantSourceIPv6 tenantDestIPv6 886 tenantSourcePort \
    tenantDestPort egressInterfaceAttr vxlanExportRole ingressInterfaceAttr 898 virtualObsID 950 ruleId vmUuid \
    vnicIndex sessionFlags flowDirection algControlFlowId algType algFlowType averageLatency retransmissionCount \
    vifUuid vifId";

static NPROBE: &str = "\
    78 CLIENT_TCP_FLAGS SERVER_TCP_FLAGS SRC_FRAGMENTS DST_FRAGMENTS SRC_TO_DST_MAX_THROUGHPUT \
    SRC_TO_DST_MIN_THROUGHPUT SRC_TO_DST_AVG_THROUGHPUT DST_TO_SRC_MAX_THROUGHPUT DST_TO_SRC_MIN_THROUGHPUT \
    DST_TO_SRC_AVG_THROUGHPUT NUM_PKTS_UP_TO_128_BYTES NUM_PKTS_128_TO_256_BYTES NUM_PKTS_256_TO_512_BYTES \
    NUM_PKTS_512_TO_1024_BYTES NUM_PKTS_1024_TO_1514_BYTES NUM_PKTS_OVER_1514_BYTES 98 CUMULATIVE_ICMP_TYPE 101 \
    SRC_IP_COUNTRY SRC_IP_CITY DST_IP_COUNTRY DST_IP_CITY FLOW_PROTO_PORT UPSTREAM_TUNNEL_ID LONGEST_FLOW_PKT \
    SHORTEST_FLOW_PKT RETRANSMITTED_IN_PKTS RETRANSMITTED_OUT_PKTS OOORDER_IN_PKTS OOORDER_OUT_PKTS \
    UNTUNNELED_PROTOCOL UNTUNNELED_IPV4_SRC_ADDR UNTUNNELED_L4_SRC_PORT UNTUNNELED_IPV4_DST_ADDR \
    UNTUNNELED_L4_DST_PORT L7_PROTO L7_PROTO_NAME DOWNSTREAM_TUNNEL_ID FLOW_USER_NAME FLOW_SERVER_NAME \
    CLIENT_NW_LATENCY_MS SERVER_NW_LATENCY_MS APPL_LATENCY_MS PLUGIN_NAME RETRANSMITTED_IN_BYTES \
    RETRANSMITTED_OUT_BYTES 188 SSL_SERVER_NAME BITTORRENT_HASH 334 NUM_PKTS_TTL_5_32 NUM_PKTS_TTL_32_64 \
    NUM_PKTS_TTL_64_96 NUM_PKTS_TTL_96_128 NUM_PKTS_TTL_128_160 NUM_PKTS_TTL_160_192 NUM_PKTS_TTL_192_224 \
    NUM_PKTS_TTL_224_255 346 NUM_PKTS_TTL_2_5 NUM_PKTS_TTL_EQ_1 349 IN_SRC_OSI_SAP OUT_DST_OSI_SAP 391 DURATION_IN \
    DURATION_OUT 396 UNTUNNELED_IPV6_SRC_ADDR UNTUNNELED_IPV6_DST_ADDR 415 TCP_WIN_MIN_IN TCP_WIN_MAX_IN \
    TCP_WIN_MSS_IN TCP_WIN_SCALE_IN TCP_WIN_MIN_OUT TCP_WIN_MAX_OUT TCP_WIN_MSS_OUT TCP_WIN_SCALE_OUT 438 \
    PAYLOAD_HASH 443 SRC_AS_MAP DST_AS_MAP 446 UPSTREAM_SESSION_ID DOWNSTREAM_SESSION_ID SRC_IP_LONG SRC_IP_LAT \
    DST_IP_LONG DST_IP_LAT 471 NPROBE_IPV4_ADDRESS SRC_TO_DST_SECOND_BYTES DST_TO_SRC_SECOND_BYTES 489 JA3C_HASH \
    JA3S_HASH SRC_HOST_NAME DST_HOST_NAME SSL_CIPHER SSL_UNSAFE_CIPHER SSL_VERSION";

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn tables_ascend_and_name_everything_once() {
        let mut seen = HashSet::new();
        for &(enterprise, text) in TABLES {
            let rows: Vec<_> = rows(text).collect();
            assert!(rows.is_sorted_by(|a, b| a.0 < b.0), "{enterprise}");
            for (id, name) in rows {
                assert!(seen.insert((enterprise, id)), "{enterprise} {id} stands twice");
                assert!(name.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_'), "{name}");
            }
        }
    }

    #[test]
    fn names_are_those_of_the_registries() {
        for (enterprise, id, name) in [
            (0, 1, "octetDeltaCount"),
            (0, 12, "destinationIPv4Address"),
            (0, 70, "mplsTopLabelStackSection"),
            (0, 152, "flowStartMilliseconds"),
            (0, 233, "firewallEvent"),
            (0, 346, "privateEnterpriseNumber"),
            (0, 491, "bgpDestinationLargeCommunityList"),
            (0, 33_002, "firewallExtendedEvent"),
            (9, 9_268, "clientRetransPackets"),
            (5_951, 128, "netscalerRoundTripTime"),
            (6_871, 21, "reverseFlowDeltaMilliseconds"),
            (6_876, 881, "tenantSourceIPv4"),
            (35_632, 118, "L7_PROTO"),
            (0, 57_590, "L7_PROTO"),
            (29_305, 1, "reverseOctetDeltaCount"),
            (29_305, 236, "reverseVRFname"),
        ] {
            assert_eq!(element_name(enterprise, id).as_deref(), Some(name));
        }
        for (enterprise, id) in [(0, 0), (0, 66), (0, 416), (29_305, 0), (9, 57_590), (4_294_967_295, 1)] {
            assert_eq!(element_name(enterprise, id), None, "{enterprise} {id}");
        }
    }
}
